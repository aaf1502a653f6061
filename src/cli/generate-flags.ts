import type { KvDtype } from '../device/device.ts';
/** What commander makes of the command line. Sampling values left out are the model's own advice. */
export interface GenerateFlags {
  prompt?: string;
  system?: string;
  raw?: boolean;
  maxTokens: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  seed?: number;
  device?: string;
  deviceOption?: Record<string, string>;
  threads: number;
  contextLength?: number;
  kvDtype?: KvDtype;
  quiet?: boolean;
}

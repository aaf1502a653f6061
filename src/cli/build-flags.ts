import type { buildDtypes } from '../builder/config.ts';

/** What commander makes of the command line. */
export interface BuildFlags {
  config?: string;
  output?: string;
  name?: string;
  target?: 'ggml';
  dtype?: 'auto' | (typeof buildDtypes)[number];
  tensor?: Record<string, string>;
  contextLengthMax?: number;
  kvDtype?: 'f16' | 'f32';
  tensorParallel?: number;
  pipelineParallel?: number;
  threads: number;
  force?: boolean;
  verify?: boolean;
  quiet?: boolean;
}

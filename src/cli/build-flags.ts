import type { buildTargets, modelDtypes } from '../builder/config.ts';
import type { KvDtype } from '../device/device.ts';

/** What commander makes of the command line. */
export interface BuildFlags {
  config?: string;
  output?: string;
  name?: string;
  target?: (typeof buildTargets)[number];
  dtype?: 'auto' | (typeof modelDtypes)[number];
  tensor?: Record<string, string>;
  contextLengthMax?: number;
  kvDtype?: KvDtype;
  tensorParallel?: number;
  pipelineParallel?: number;
  threads: number;
  random?: string;
  seed: number;
  force?: boolean;
  verify?: boolean;
  quiet?: boolean;
}

import type { GgufValue } from './gguf-values.ts';
import type { StoredTensor } from './tensor-file.ts';

/** The parts of one GGUF file, before shards are joined. */
export interface GgufParts {
  path: string;
  version: number;
  alignmentBytes: number;
  metadata: Map<string, GgufValue>;
  tensors: Map<string, StoredTensor>;
}

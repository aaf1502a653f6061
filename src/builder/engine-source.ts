import type { GgufFile } from '../checkpoint/gguf-reader.ts';
import type { GgufValue } from '../checkpoint/gguf-values.ts';
import { tensorChunks } from '../checkpoint/tensor-file.ts';
import { tokenizerFilesFromGguf } from '../tokenizer/gguf-to-files.ts';
import { ggufVocabularyOf } from '../tokenizer/gguf-vocabulary.ts';
import type { TokenizerFiles } from '../tokenizer/json-tokenizer.ts';
import type { ConvertibleTensor } from './convert.ts';

/** Metadata as it is written: in this order. */
export type MetadataEntry = readonly [string, GgufValue];

/** A checkpoint of any kind, seen as the engine that it will become: GGUF's names, layouts and metadata. */
export interface EngineSource {
  /** Everything but `general.file_type` and `general.quantization_version`, which the recipe decides. */
  metadata: MetadataEntry[];
  tensors: ConvertibleTensor[];
  /** Transformer layers. */
  layers: number;
  tokenizer: TokenizerFiles;
  /** What could not be carried over. */
  notes: string[];
}

/** Metadata that is written anew, or that only a split file has. */
const dropped = /^(split\.|general\.(file_type|quantization_version|alignment)$)/;

/** A GGUF model is already in an engine's terms. */
export function ggufSource(gguf: GgufFile): EngineSource {
  const tensors = [...gguf.tensors.values()].map((tensor) => ({
    name: tensor.name,
    shape: tensor.shape,
    dtype: tensor.dtype,
    *chunks() {
      for (const { bytes } of tensorChunks(tensor)) yield bytes;
    },
  }));
  const vocabulary = ggufVocabularyOf(gguf);
  return {
    metadata: [...gguf.metadata].filter(([key]) => !dropped.test(key)),
    tensors,
    layers: gguf.number(`${gguf.architecture}.block_count`),
    tokenizer: tokenizerFilesFromGguf(vocabulary),
    notes: [...(vocabulary.warnings ?? [])],
  };
}

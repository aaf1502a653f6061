import type { HuggingFaceFolder } from '../checkpoint/hugging-face.ts';
import { readTensor, rowLayout, type StoredTensor } from '../checkpoint/tensor-file.ts';
import { type DType, dtypes } from '../graph/dtype.ts';
import type { Architecture } from '../models/architecture.ts';
import type { Hyperparameters } from '../models/hyperparameters.ts';
import { transformRows } from '../models/transforms.ts';
import { type ModelWeight, modelWeights } from '../models/weights.ts';
import { TokenizerError } from '../tokenizer/errors.ts';
import { ggufVocabularyFromTokenizerJson } from '../tokenizer/files-to-gguf.ts';
import type { TokenizerFiles } from '../tokenizer/json-tokenizer.ts';
import { readTokenizerFiles } from '../tokenizer/open.ts';
import type { ConvertibleTensor } from './convert.ts';
import type { EngineSource, MetadataEntry } from './engine-source.ts';
import { BuilderError } from './errors.ts';
import { modelOfHuggingFace } from './model.ts';
import { tokenizerMetadata } from './tokenizer-metadata.ts';

/** Rows are read in blocks of about this size. */
const blockBytes = 16 * 1024 * 1024;

/** Types that a checkpoint's weights may have: what only moves elements works on all of them. */
const floatTypes: readonly DType[] = ['f64', 'f32', 'f16', 'bf16'];

/**
 * A Hugging Face checkpoint under GGUF's names and in GGUF's layouts.
 * @param name what other programs show the file as
 * @throws CheckpointError, ModelError, TokenizerError, BuilderError, UnknownNameError naming what is missing or does not fit
 */
export async function huggingFaceSource(folder: HuggingFaceFolder, name: string): Promise<EngineSource> {
  const { architecture, hyperparameters } = await modelOfHuggingFace(folder);
  const tokenizer = await readTokenizerFiles(folder.path);
  const vocabulary = vocabularyMetadata(tokenizer, hyperparameters);
  const general: MetadataEntry[] = [
    ['general.type', { type: 'string', value: 'model' }],
    ['general.name', { type: 'string', value: name }],
  ];
  return {
    metadata: [...architecture.ggufMetadata(hyperparameters), ...general, ...vocabulary.metadata],
    tensors: convertibleTensors(folder, architecture, hyperparameters),
    layers: hyperparameters.layers,
    tokenizer,
    notes: vocabulary.notes,
  };
}

/** The vocabulary for other readers of the file; Nereid itself reads the tokenizer folder. */
function vocabularyMetadata(
  files: TokenizerFiles,
  hyperparameters: Hyperparameters,
): { metadata: MetadataEntry[]; notes: string[] } {
  try {
    const vocabulary = ggufVocabularyFromTokenizerJson(files, hyperparameters.vocabularySize);
    return { metadata: tokenizerMetadata(vocabulary), notes: [...(vocabulary.warnings ?? [])] };
  } catch (thrown) {
    if (!(thrown instanceof TokenizerError) || thrown.code !== 'TOKENIZER_UNSUPPORTED') throw thrown;
    const note = `the weights carry no vocabulary, so only Nereid can use them: ${thrown.message}`;
    return { metadata: [['tokenizer.ggml.model', { type: 'string', value: 'no_vocab' }]], notes: [note] };
  }
}

function convertibleTensors(
  folder: HuggingFaceFolder,
  architecture: Architecture,
  hyperparameters: Hyperparameters,
): ConvertibleTensor[] {
  const weights = modelWeights(architecture, hyperparameters);
  // By layer: a file that is memory-mapped is then read from start to end.
  weights.sort((a, b) => layerOf(a.gguf) - layerOf(b.gguf));
  return weights.flatMap((weight) => {
    if (weight.values) return [computed(weight, weight.values)];
    // A checkpoint that ties its embeddings may carry the copy all the same; transformers ignores it, too.
    if (weight.presence === 'tied' && hyperparameters.tiedEmbeddings) return [];
    const name = weight.hf.find((candidate) => folder.tensors.has(candidate));
    if (name === undefined && (weight.presence !== 'required' || weight.hf.length === 0)) return [];
    return [stored(folder.tensor(name ?? weight.hf[0] ?? weight.gguf), weight)];
  });
}

/** Tensors of no layer come first. */
function layerOf(gguf: string): number {
  return Number(/^blk\.(\d+)\./.exec(gguf)?.[1] ?? -1);
}

function computed(weight: ModelWeight, values: Float32Array): ConvertibleTensor {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { name: weight.gguf, shape: weight.shape, dtype: 'f32', chunks: () => [bytes] };
}

function stored(tensor: StoredTensor, weight: ModelWeight): ConvertibleTensor {
  checkTensor(tensor, weight);
  const { shape, transform } = weight;
  const rowElements = shape.at(-1) ?? 1;
  const rows = shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const elementBytes = dtypes[tensor.dtype].blockBytes;
  const rowsAtOnce = Math.max(1, Math.floor(blockBytes / (rowElements * elementBytes)));
  const source = {
    shape: tensor.shape,
    elementBytes,
    readRows: (rowStart: number, rowCount: number) => readTensor(tensor, rowStart, rowCount),
  };
  return {
    name: weight.gguf,
    shape,
    dtype: tensor.dtype,
    *chunks() {
      for (let row = 0; row < rows; row += rowsAtOnce) {
        yield transformRows(transform, source, row, Math.min(rowsAtOnce, rows - row));
      }
    },
  };
}

function checkTensor(tensor: StoredTensor, weight: ModelWeight): void {
  const { hfShape } = weight;
  if (tensor.shape.length !== hfShape.length || tensor.shape.some((size, i) => size !== hfShape[i])) {
    const problem = `tensor '${tensor.name}' has shape [${tensor.shape.join(', ')}], but config.json asks for [${hfShape.join(', ')}]`;
    throw new BuilderError('BUILD_TENSOR_SHAPE', `${problem}; take weights and config from the same model`);
  }
  if (floatTypes.includes(tensor.dtype) && rowLayout(tensor).rowBytes > 0) return;
  const problem = `tensor '${tensor.name}' is stored as ${tensor.dtype}`;
  const fix = 'use the original f32, f16 or bf16 checkpoint and let Nereid quantize it';
  throw new BuilderError('BUILD_SOURCE_UNSUPPORTED', `${problem}; ${fix}`);
}

import { assert } from '../base/errors.ts';
import { dtypes, rowBytes } from '../graph/dtype.ts';
import {
  divideModel,
  feedForwardMultipleDefault,
  hyperparametersOfRank,
  type Parallelism,
  rangeLength,
} from '../models/partition.ts';
import type { Range, RankPart } from '../models/rank-part.ts';
import type { TensorSplit } from '../models/weight-map.ts';
import { modelWeights } from '../models/weights.ts';
import type { ConvertibleTensor } from './convert.ts';
import { BuilderError } from './errors.ts';
import type { DescribedModel } from './model.ts';
import type { QuantizationPlan } from './write-weights.ts';

/** GGUF's names of the embedding table, and of the output matrix that a tied model takes from it. */
const embeddingName = 'token_embd.weight';
const outputName = 'output.weight';

/** The parts of a model that is built with this plan: feed-forward columns are cut at whole blocks of the types that it stores them in. */
export function partsOf(
  { hyperparameters }: DescribedModel,
  parallelism: Parallelism,
  plan: QuantizationPlan,
): RankPart[] {
  const blocks = plan.tensors
    .filter(({ tensor }) => tensor.name.endsWith('.ffn_down.weight'))
    .flatMap(({ tensor, dtype }) => [dtypes[dtype].blockElements, dtypes[tensor.dtype].blockElements]);
  return divideModel(hyperparameters, parallelism, Math.max(feedForwardMultipleDefault, ...blocks));
}

/**
 * What one rank stores: its layers' tensors, of divided ones its rows or columns. A tied model's output matrix becomes a tensor of its own,
 * since a rank multiplies only some rows of the table that it looks all tokens up in.
 * @throws BuilderError `BUILD_SHARD_BLOCKS` naming the tensor whose quantized rows cannot be cut there, and what else can be done
 */
export function planOfRank(model: DescribedModel, part: RankPart, whole: QuantizationPlan): QuantizationPlan {
  const { architecture, hyperparameters } = model;
  const byName = new Map(whole.tensors.map((row) => [row.tensor.name, row]));
  const weights = modelWeights(architecture, hyperparametersOfRank(hyperparameters, part));
  const tensors = weights.flatMap(({ gguf, split }) => {
    const from = !byName.has(gguf) && gguf === outputName ? embeddingName : gguf;
    const row = byName.get(from);
    if (!row) return [];
    const tensor = split
      ? sliceTensor({ ...row.tensor, name: gguf }, split.axis, split.ranges(hyperparameters, part))
      : { ...row.tensor, name: gguf };
    if (split?.axis === 1) checkBlocks(tensor, row.dtype, part);
    return [{ tensor, dtype: row.dtype }];
  });
  const names = new Set(tensors.map(({ tensor }) => tensor.name));
  return { tensors, exceptions: whole.exceptions.filter(({ tensor }) => names.has(tensor)) };
}

/** Some rows (axis 0) or columns (axis 1) of a tensor; of a vector, elements. Ranges are ascending. */
export function sliceTensor(
  tensor: ConvertibleTensor,
  axis: TensorSplit['axis'],
  ranges: readonly Range[],
): ConvertibleTensor {
  const kept = ranges.reduce((sum, range) => sum + rangeLength(range), 0);
  const shape = tensor.shape.map((size, at) => (at === axis ? kept : size));
  const alongRows = axis === tensor.shape.length - 1;
  return {
    ...tensor,
    shape,
    chunks: () => (alongRows ? columnChunks(tensor, ranges) : rowChunks(tensor, ranges)),
  };
}

function* rowChunks(tensor: ConvertibleTensor, ranges: readonly Range[]): Generator<Uint8Array, void> {
  const bytes = rowBytes(tensor.dtype, tensor.shape.at(-1) ?? 1);
  let first = 0;
  for (const chunk of tensor.chunks()) {
    const rows = chunk.length / bytes;
    for (const [from, to] of ranges) {
      const start = Math.max(from - first, 0);
      const end = Math.min(to - first, rows);
      if (end > start) yield chunk.subarray(start * bytes, end * bytes);
    }
    first += rows;
  }
}

function* columnChunks(tensor: ConvertibleTensor, ranges: readonly Range[]): Generator<Uint8Array, void> {
  const { name, dtype } = tensor;
  const columns = tensor.shape.at(-1) ?? 1;
  const { blockElements } = dtypes[dtype];
  for (const [from, to] of ranges) {
    if (from % blockElements !== 0 || to % blockElements !== 0) throw cutBlock(name, dtype, from, to);
  }
  const bytes = rowBytes(dtype, columns);
  const cuts = ranges.map(([from, to]) => [rowBytes(dtype, from), rowBytes(dtype, to)] as const);
  const keptBytes = cuts.reduce((sum, cut) => sum + rangeLength(cut), 0);
  for (const chunk of tensor.chunks()) {
    const rows = chunk.length / bytes;
    assert(Number.isInteger(rows), `${name} comes in whole rows`);
    const kept = new Uint8Array(rows * keptBytes);
    let at = 0;
    for (let row = 0; row < rows; row++) {
      for (const [from, to] of cuts) {
        kept.set(chunk.subarray(row * bytes + from, row * bytes + to), at);
        at += to - from;
      }
    }
    yield kept;
  }
}

function checkBlocks(tensor: ConvertibleTensor, dtype: keyof typeof dtypes, { tensorRank }: RankPart): void {
  const columns = tensor.shape.at(-1) ?? 1;
  const { blockElements } = dtypes[dtype];
  if (columns % blockElements === 0) return;
  const problem = `rank ${tensorRank} would hold ${columns} columns of '${tensor.name}', no whole number of ${dtype}'s blocks of ${blockElements}`;
  throw shardError(problem, tensor.name);
}

function cutBlock(name: string, dtype: keyof typeof dtypes, from: number, to: number): BuilderError {
  const { blockElements } = dtypes[dtype];
  const problem = `columns ${from} to ${to} of '${name}' are to be cut out, which ${dtype} stores in blocks of ${blockElements}`;
  return shardError(problem, name);
}

function shardError(problem: string, name: string): BuilderError {
  const pattern = name.replace(/^blk\.\d+\./, 'blk.*.');
  const fix = `build from an unquantized checkpoint with --tensor '${pattern}=q8_0' (or f16), or with fewer tensor ranks`;
  return new BuilderError('BUILD_SHARD_BLOCKS', `${problem}; ${fix}`);
}

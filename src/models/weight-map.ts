import { definite } from '../base/errors.ts';
import type { Shape } from '../graph/graph.ts';
import type { Hyperparameters } from './hyperparameters.ts';
import { rangeLength } from './partition.ts';
import type { Range, RankPart } from './rank-part.ts';

/**
 * One row of an architecture's weight map: where a logical tensor lies in a checkpoint and in an engine. `{i}` stands for each layer.
 * Names: `<linear>.weight` and `<linear>.bias` make up the logical linear `<linear>`, to which LoRA binds.
 */
export interface WeightRow {
  logical: string;
  /** Hugging Face's name; absent for tensors that are computed from hyperparameters. */
  hf?: string;
  /** llama.cpp's name, which graphs and engines use. */
  gguf: string;
  /** In the engine. */
  shape(p: Hyperparameters): Shape;
  /** From Hugging Face's layout to the engine's. Default none. */
  transform?: 'none' | 'ropePermutation' | 'transpose';
  /** Heads in the rows, for `ropePermutation`. */
  heads?(p: Hyperparameters): number;
  /** `optional`: used where present. `tied`: the embedding table where absent. Default required. */
  presence?: 'required' | 'optional' | 'tied';
  /** How ranks divide it; absent where every rank has the whole. */
  split?: TensorSplit;
  /** Of a tensor outside the layers: the only stage that reads it. Absent: all do. */
  stage?: 'first' | 'last';
  /** Makes the tensor for checkpoints that have only its hyperparameters; undefined where this model has none. */
  compute?(p: Hyperparameters): Float32Array | undefined;
}

/** How tensor parallelism divides a tensor: by rows (0; a bias likewise) or by columns (1), and which of them a rank keeps, in order. */
export interface TensorSplit {
  axis: 0 | 1;
  /** @param p the whole model's numbers */
  ranges(p: Hyperparameters, part: RankPart): readonly Range[];
}

const headRange = (p: Hyperparameters, [from, to]: Range): Range => [
  from * p.headDimension,
  to * p.headDimension,
];

/** Divisions by what the rows or columns stand for. */
export const splits = {
  queryHeads: (axis: 0 | 1): TensorSplit => ({ axis, ranges: (p, part) => [headRange(p, part.heads)] }),
  kvHeads: (axis: 0 | 1): TensorSplit => ({ axis, ranges: (p, part) => [headRange(p, part.kvHeads)] }),
  /** Rows of q, k and v one after the other in one matrix. */
  fusedHeads: (): TensorSplit => ({
    axis: 0,
    ranges(p, part) {
      const queryRows = queryWidth(p);
      const [from, to] = headRange(p, part.kvHeads);
      const keys = [queryRows + from, queryRows + to] as const;
      const values = [keys[0] + kvWidth(p), keys[1] + kvWidth(p)] as const;
      return [headRange(p, part.heads), keys, values];
    },
  }),
  feedForward: (axis: 0 | 1): TensorSplit => ({ axis, ranges: (_, part) => [part.feedForward] }),
  vocabulary: (): TensorSplit => ({
    axis: 0,
    ranges: (_, part) => [definite(part.vocabulary[part.tensorRank], 'rows of the output matrix')],
  }),
};

/** One linear layer's rows of a weight map. */
export interface LinearRow {
  logical: string;
  /** Without `.weight`. */
  hf: string;
  gguf: string;
  /** Outputs and inputs. */
  rows(p: Hyperparameters): number;
  columns(p: Hyperparameters): number;
  bias: 'none' | 'optional' | 'required';
  transform?: 'ropePermutation' | 'transpose';
  heads?(p: Hyperparameters): number;
  /** Of its weight. A bias goes with the rows; where columns are divided every rank has the whole, and adds it after the sum. */
  split?: TensorSplit;
}

/** The weight and (unless `none`) the bias of a linear layer. */
export function linearRows(row: LinearRow): WeightRow[] {
  const { logical, hf, gguf, transform = 'none', heads, split } = row;
  const rows: WeightRow[] = [
    {
      logical: `${logical}.weight`,
      hf: `${hf}.weight`,
      gguf: `${gguf}.weight`,
      shape: (p) => [row.rows(p), row.columns(p)],
      transform,
      ...(heads && { heads }),
      ...(split && { split }),
    },
  ];
  if (row.bias === 'none') return rows;
  rows.push({
    logical: `${logical}.bias`,
    hf: `${hf}.bias`,
    gguf: `${gguf}.bias`,
    shape: (p) => [row.rows(p)],
    // A transposed matrix has its bias as it is; permuted rows take their bias along.
    transform: transform === 'ropePermutation' ? transform : 'none',
    ...(heads && { heads }),
    ...(split?.axis === 0 && { split }),
    presence: row.bias,
  });
  return rows;
}

/** A normalization's vector of the given length. */
export function vectorRow(
  logical: string,
  hf: string,
  gguf: string,
  length: (p: Hyperparameters) => number,
): WeightRow {
  return { logical, hf, gguf, shape: (p) => [length(p)] };
}

export const width = (p: Hyperparameters): number => p.width;
export const queryWidth = (p: Hyperparameters): number => p.heads * p.headDimension;
export const kvWidth = (p: Hyperparameters): number => p.kvHeads * p.headDimension;
export const feedForwardWidth = (p: Hyperparameters): number => p.feedForwardWidth;
/** Rows of the output matrix: of one rank's part, or all. */
export const outputRows = ({ part, vocabularySize }: Hyperparameters): number =>
  part
    ? rangeLength(definite(part.vocabulary[part.tensorRank], 'rows of the output matrix'))
    : vocabularySize;

import type { Shape } from '../graph/graph.ts';
import type { Hyperparameters } from './hyperparameters.ts';

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
  /** Makes the tensor for checkpoints that have only its hyperparameters; undefined where this model has none. */
  compute?(p: Hyperparameters): Float32Array | undefined;
}

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
}

/** The weight and (unless `none`) the bias of a linear layer. */
export function linearRows(row: LinearRow): WeightRow[] {
  const { logical, hf, gguf, transform = 'none', heads } = row;
  const rows: WeightRow[] = [
    {
      logical: `${logical}.weight`,
      hf: `${hf}.weight`,
      gguf: `${gguf}.weight`,
      shape: (p) => [row.rows(p), row.columns(p)],
      transform,
      ...(heads && { heads }),
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

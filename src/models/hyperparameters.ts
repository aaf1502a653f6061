import type { RankPart } from './rank-part.ts';

/** How rotary frequencies were stretched beyond the context that a model was pre-trained with. */
export type RopeScaling =
  | { type: 'linear'; factor: number }
  /** Llama 3: frequencies divided one by one; stored as the tensor `rope_freqs.weight`. */
  | {
      type: 'llama3';
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      originalContextLength: number;
    }
  | {
      type: 'yarn';
      factor: number;
      originalContextLength: number;
      /** Multiplies ggml's own magnitude correction, 1 + 0.1 ln(factor). */
      attentionFactor: number;
      betaFast: number;
      betaSlow: number;
    };

/** Rotary position embedding, before an architecture chooses its pairs. */
export interface RopeHyperparameters {
  theta: number;
  /** Leading elements of a head that turn. */
  dimensions: number;
  scaling?: RopeScaling;
}

/** The numbers of a decoder, from whichever file they came. */
export interface Hyperparameters {
  /** The registry row. */
  architecture: string;
  layers: number;
  /** Elements of the residual stream. */
  width: number;
  heads: number;
  kvHeads: number;
  headDimension: number;
  feedForwardWidth: number;
  vocabularySize: number;
  /** Positions of one sequence. */
  contextLength: number;
  normEpsilon: number;
  /** Absent where positions are learned. */
  rope?: RopeHyperparameters;
  /** Sliding window in positions, of the layers that `windowLayers` marks (all where it is absent). */
  window?: number;
  windowLayers?: readonly boolean[];
  /** The output matrix is the embedding table. */
  tiedEmbeddings: boolean;
  /** Of one rank of a group: what it holds. `heads`, `kvHeads` and `feedForwardWidth` are then its own. */
  part?: RankPart;
}

/** The window of one layer, or undefined where it sees everything. */
export function windowOf(hyperparameters: Hyperparameters, layer: number): number | undefined {
  const { window, windowLayers } = hyperparameters;
  return windowLayers && !windowLayers[layer] ? undefined : window;
}

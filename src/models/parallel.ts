import type { BatchInputs, GraphBuilder, LinearWeights, Value } from '../graph/builder.ts';
import type { Hyperparameters } from './hyperparameters.ts';
import { rangeLength } from './partition.ts';

/**
 * How decoders record what differs between one rank and a group. Tensor parallelism is Megatron's: a linear divided by outputs is followed by
 * one divided by inputs, whose partial sums are added up over the ranks, so the residual stream is whole (and equal) everywhere.
 */

/** A linear whose outputs the ranks divide among them: each computes its own. */
export function columnLinear(g: GraphBuilder, p: Hyperparameters, x: Value, weights: LinearWeights): Value {
  return g.linear(x, weights, isDivided(p) ? 'column' : undefined);
}

/** A linear whose inputs the ranks divide among them: its result is the sum over the group, to which the bias is added once. */
export function rowLinear(g: GraphBuilder, p: Hyperparameters, x: Value, weights: LinearWeights): Value {
  if (!isDivided(p)) return g.linear(x, weights);
  const { name, weight, bias } = weights;
  const sum = g.allReduce(g.linear(x, { name, weight }, 'row'));
  return bias ? g.add(sum, bias) : sum;
}

/** Logits of the whole vocabulary, [R, vocabulary]: each rank multiplies its rows of the output matrix. */
function outputLinear(g: GraphBuilder, p: Hyperparameters, x: Value, weights: LinearWeights): Value {
  const logits = columnLinear(g, p, x, weights);
  const { part } = p;
  return part && isDivided(p)
    ? g.allGather(logits, part.vocabulary.map(rangeLength), part.tensorRank)
    : logits;
}

/** What a `decode` graph ends in. */
export interface DecodeOutputs {
  /** [L, vocabulary]: of the output rows, or of those that `logitRows` picks. */
  logits?: Value;
  /** [R, width] the last norm's result, where the shape asks for it; of a stage that is not the last [T, width], the residual stream. */
  hidden?: Value;
}

/**
 * The end of a decoder: logits, and the hidden states they are made of where the batch's shape asks for them.
 * @param hidden [R, width] behind the last norm
 */
export function decoderEnd(
  g: GraphBuilder,
  p: Hyperparameters,
  { shape }: BatchInputs,
  hidden: Value,
  output: LinearWeights,
): DecodeOutputs {
  const { outputRows, logitRows } = shape;
  if (logitRows === undefined) return { logits: outputLinear(g, p, hidden, output) };
  if (logitRows === 0) return { hidden };
  const chosen = logitRows === outputRows ? hidden : g.rows(hidden, g.input('logitRows', [logitRows], 'i32'));
  return { hidden, logits: outputLinear(g, p, chosen, output) };
}

/** The residual stream that this stage starts from, [T, width]: its tokens' embedding, or what the stage before handed on (`hidden`). */
export function stageInput(
  g: GraphBuilder,
  p: Hyperparameters,
  batch: BatchInputs,
  embed: () => Value,
): Value {
  return isFirstStage(p) ? embed() : g.input('hidden', [batch.shape.tokens, p.width], 'f32');
}

/** The layers of this stage, by their number in the whole model. */
export function stageLayers(p: Hyperparameters): number[] {
  const [from, to] = p.part?.layers ?? [0, p.layers];
  return Array.from({ length: to - from }, (_, index) => from + index);
}

/** The KV layer of a layer: caches hold only this stage's. */
export function kvLayerOf(p: Hyperparameters, layer: number): number {
  return layer - (p.part?.layers[0] ?? 0);
}

/** Whether tokens are looked up here. */
export function isFirstStage({ part }: Hyperparameters): boolean {
  return part === undefined || part.stage === 0;
}

/** Whether logits are made here. */
export function isLastStage({ part }: Hyperparameters): boolean {
  return part === undefined || part.stage === part.stages - 1;
}

function isDivided({ part }: Hyperparameters): boolean {
  return part !== undefined && part.tensorRanks > 1;
}

import { definite } from '../../base/errors.ts';
import { uniform } from '../../base/random.ts';
import { argmax } from '../argmax.ts';
import {
  hostChooses,
  noTokenPossible,
  type OutputTable,
  type RowLogprobs,
  type SamplingStateLoad,
  type StepOutput,
  want,
} from '../step.ts';

/** Tokens less likely than e^−32 times the likeliest one are never drawn. */
const distanceMax = 32;

/** One output row's logits. */
export interface SampledRow {
  logits: Float32Array;
  /** Token of each logit, ascending; absent when a logit's index is its token. All others are impossible. */
  ids?: Int32Array;
}

/** One sequence's penalties, bias and bans, and what it said so far. */
interface SamplingState {
  load: SamplingStateLoad;
  /** By token: how often it is in the output; 0 for one that is only in the prompt. */
  counts: Map<number, number>;
}

/**
 * What choosing a token on a device means, in plain loops: every device that samples is tested against it, and the host's sampler
 * (`runtime/sampling`) chooses the same. Draws are keyed by (seed, sequence, position), so that no batching changes them.
 */
export class ReferenceSampler {
  readonly #states = new Map<number, SamplingState>();

  /** The tokens, and log-probabilities where wanted, of all output rows. */
  choose(outputs: OutputTable, rowOf: (row: number) => SampledRow): StepOutput {
    const { count, wants, sampling } = outputs;
    for (const load of sampling.loads) this.#states.set(load.state, stateOf(load));
    const tokens = new Int32Array(count).fill(hostChooses);
    const logprobRows: number[] = [];
    for (let row = 0; row < count; row++) {
      const wanted = wants[row] as number;
      if (!(wanted & want.token)) continue;
      tokens[row] = this.#token(outputs, row, rowOf(row));
      if (wanted & want.logprobs) logprobRows.push(row);
    }
    if (logprobRows.length === 0) return { tokens };
    return { tokens, logprobs: logprobsOf(outputs, logprobRows, tokens, rowOf) };
  }

  #token({ sampling }: OutputTable, row: number, { logits, ids }: SampledRow): number {
    const own = logits.slice();
    const place = sampling.state[row] as number;
    const state = place < 0 ? undefined : definite(this.#states.get(place), `sampling state ${place}`);
    const positionOf = (token: number) => (ids ? ids.indexOf(token) : token);
    if (state) adjust(own, state, sampling.position[row] as number, positionOf);
    const best = argmax(own, 0, own.length);
    if (best < 0) return noTokenPossible;
    const temperature = sampling.temperature[row] as number;
    const chosen = temperature === 0 ? best : draw(own, best, sampling, row);
    const token = ids ? (ids[chosen] as number) : chosen;
    state?.counts.set(token, (state.counts.get(token) ?? 0) + 1);
    return token;
  }
}

function logprobsOf(
  { sampling }: OutputTable,
  rows: readonly number[],
  tokens: Int32Array,
  rowOf: (row: number) => SampledRow,
): RowLogprobs {
  const perRow = Math.max(...rows.map((row) => sampling.topLogprobs[row] as number));
  const result = {
    chosen: new Float64Array(rows.length),
    perRow,
    ids: new Int32Array(rows.length * perRow),
    values: new Float32Array(rows.length * perRow).fill(Number.NEGATIVE_INFINITY),
  };
  for (const [index, row] of rows.entries()) {
    const { logits, ids } = rowOf(row);
    const max = logits[argmax(logits, 0, logits.length)] ?? Number.NaN;
    const logSum = max + Math.log(logits.reduce((sum, logit) => sum + weightOf(max - logit), 0));
    const token = tokens[row] as number;
    result.chosen[index] = (logits[ids ? ids.indexOf(token) : token] ?? Number.NaN) - logSum;
    const order = Array.from(logits.keys()).sort(
      (a, b) => (logits[b] as number) - (logits[a] as number) || a - b,
    );
    for (const [at, place] of order.slice(0, perRow).entries()) {
      result.ids[index * perRow + at] = ids ? (ids[place] as number) : place;
      result.values[index * perRow + at] = (logits[place] as number) - logSum;
    }
  }
  return result;
}

function stateOf(load: SamplingStateLoad): SamplingState {
  const counts = new Map<number, number>();
  for (const token of load.promptTokens) counts.set(token, 0);
  for (const token of load.outputTokens) counts.set(token, (counts.get(token) ?? 0) + 1);
  return { load, counts };
}

/** In vLLM's order: bans, bias, then repetition, frequency and presence penalties. */
function adjust(
  logits: Float32Array,
  { load, counts }: SamplingState,
  position: number,
  positionOf: (token: number) => number,
): void {
  const change = (token: number, of: (logit: number) => number): void => {
    const place = positionOf(token);
    if (place >= 0) logits[place] = of(logits[place] as number);
  };
  if (position < load.banUntilPosition) {
    for (const token of load.bannedTokens) change(token, () => Number.NEGATIVE_INFINITY);
  }
  for (const [index, token] of load.biasTokens.entries()) {
    change(token, (logit) => logit + (load.biasValues[index] as number));
  }
  const { repetitionPenalty, frequencyPenalty, presencePenalty } = load;
  if (repetitionPenalty === 1 && frequencyPenalty === 0 && presencePenalty === 0) return;
  for (const [token, count] of counts) {
    change(token, (logit) => {
      const repeated = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      return count > 0 ? repeated - (frequencyPenalty * count + presencePenalty) : repeated;
    });
  }
}

interface Weighed {
  id: number;
  weight: number;
}

/** Draws from the softmax, cut by min-p, top-k and top-p; the tokens' shares of [0, 1) lie in order of ids. */
function draw(logits: Float32Array, best: number, sampling: OutputTable['sampling'], row: number): number {
  const max = logits[best] as number;
  const temperature = sampling.temperature[row] as number;
  const minP = sampling.minP[row] as number;
  const reach = minP > 0 ? Math.min(distanceMax, -Math.log(minP) + 1e-11) : distanceMax;
  let kept: Weighed[] = [];
  logits.forEach((logit, id) => {
    const distance = (max - logit) / temperature;
    if (distance < reach) kept.push({ id, weight: weightOf(distance) });
  });
  kept = topMass(topCount(kept, sampling.topK[row] as number, logits), sampling.topP[row] as number, logits);
  const total = kept.reduce((sum, { weight }) => sum + weight, 0);
  const seed = sampling.seed[row] as number;
  const key = uniform(seed, sampling.sequence[row] as number, sampling.position[row] as number);
  let left = key * total;
  for (const { id, weight } of kept) {
    left -= weight;
    if (left < 0) return id;
  }
  return definite(kept.at(-1), 'a token').id;
}

function weightOf(distance: number): number {
  return distance < distanceMax ? Math.exp(-distance) : 0;
}

/** The k likeliest, and those equal to the last of them. */
function topCount(kept: Weighed[], k: number, logits: Float32Array): Weighed[] {
  if (k === 0 || k >= kept.length) return kept;
  const sorted = kept.map(({ id }) => logits[id] as number).sort((a, b) => b - a);
  const lowest = sorted[k - 1] as number;
  return kept.filter(({ id }) => (logits[id] as number) >= lowest);
}

/** The fewest likeliest that have the share `p` of all; of equal ones the lower id counts as likelier. */
function topMass(kept: Weighed[], p: number, logits: Float32Array): Weighed[] {
  if (p === 1 || kept.length <= 1) return kept;
  const target = p * kept.reduce((sum, { weight }) => sum + weight, 0);
  const order = kept.toSorted((a, b) => (logits[b.id] as number) - (logits[a.id] as number) || a.id - b.id);
  const chosen = new Set<number>();
  let mass = 0;
  for (const { id, weight } of order) {
    chosen.add(id);
    mass += weight;
    if (mass >= target) break;
  }
  return kept.filter(({ id }) => chosen.has(id));
}

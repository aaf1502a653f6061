import { uniform } from '../../base/random.ts';
import type { Distribution } from '../sampling/distribution.ts';

/** One draft that somebody else drew, and what it was drawn from. */
export interface DrawnDraft {
  token: number;
  distribution: Distribution;
  /**
   * TensorRT-LLM's `draft_acceptance_threshold`: the draft holds if it is at least so many times as likely as where it was drawn from. Absent: the rule that keeps the
   * model's distribution.
   */
  threshold?: number | undefined;
}

/** The two draws of {@link verifyDrawn}, in [0, 1), independent of each other and of what the draft was drawn with. */
export interface RejectionDraws {
  accept: number;
  residual: number;
}

/** A sequence's own draws are keyed by its index; these keys are far beyond any. */
const acceptKey = 0x10_0000;
const residualKey = 0x20_0000;

/** The draws that belong to one position of one sequence. */
export function rejectionDraws(seed: number, sequence: number, position: number): RejectionDraws {
  return {
    accept: uniform(seed, sequence + acceptKey, position),
    residual: uniform(seed, sequence + residualKey, position),
  };
}

/**
 * Speculative sampling (Leviathan et al. 2023; Chen et al. 2023): a draft drawn from q holds with probability min(1, p / q), else a token is drawn from what p has
 * over q. What comes out is distributed as p, whatever q is.
 * @returns the token at this position; the draft's own where it holds
 */
export function verifyDrawn(target: Distribution, draft: DrawnDraft, draws: RejectionDraws): number {
  const { token, distribution, threshold } = draft;
  const p = probabilityOf(target, token);
  const q = probabilityOf(distribution, token);
  // A token that q does not have was not drawn from it: it may come as any other.
  if (q > 0 && (threshold === undefined ? draws.accept * q < p : p >= threshold * q)) return token;
  return drawResidual(target, distribution, draws.residual);
}

/** Of equal distributions nothing is left, but for rounding: then any token of the model's will do. */
function drawResidual(target: Distribution, drafted: Distribution, draw: number): number {
  const left = new Float64Array(target.tokens.length);
  let total = 0;
  for (let index = 0, other = 0; index < left.length; index++) {
    const token = target.tokens[index] as number;
    while (other < drafted.tokens.length && (drafted.tokens[other] as number) < token) other++;
    const q = drafted.tokens[other] === token ? (drafted.probabilities[other] as number) : 0;
    left[index] = Math.max(0, (target.probabilities[index] as number) - q);
    total += left[index] as number;
  }
  const weights = total > 0 ? left : target.probabilities;
  return target.tokens[fall(weights, draw * (total > 0 ? total : 1))] as number;
}

/** The index in which the running sum of weights passes `goal`; the last one with any weight where rounding leaves something. */
function fall(weights: Float64Array, goal: number): number {
  let left = goal;
  let last = 0;
  for (let index = 0; index < weights.length; index++) {
    const weight = weights[index] as number;
    if (weight === 0) continue;
    last = index;
    left -= weight;
    if (left < 0) break;
  }
  return last;
}

function probabilityOf({ tokens, probabilities }: Distribution, token: number): number {
  let low = 0;
  let high = tokens.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((tokens[middle] as number) < token) low = middle + 1;
    else high = middle;
  }
  return tokens[low] === token ? (probabilities[low] as number) : 0;
}

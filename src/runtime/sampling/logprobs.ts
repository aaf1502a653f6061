import type { TokenLogprobs } from '../requests/events.ts';
import { stepsPerUnit } from './exponential.ts';
import { sumWeights } from './histogram.ts';
import { type LogitRow, likeliest, tokenAt } from './logit-row.ts';

/**
 * Log-probabilities of the model's own distribution (no temperature, no penalties), as vLLM and OpenAI report them.
 * @param token the chosen one
 * @param top how many of the likeliest to report; fewer if the row has fewer
 */
export function tokenLogprobs(row: LogitRow, token: number, top: number): TokenLogprobs {
  const maxPosition = likeliest(row);
  const max = row.logits[maxPosition] ?? Number.NaN;
  const logSum = max + Math.log(sumWeights(row, max, stepsPerUnit));
  const best = topPositions(row, top);
  return {
    logprob: (row.logits[row.start + token] as number) - logSum,
    top: {
      tokens: Int32Array.from(best, (position) => tokenAt(row, position)),
      logprobs: Float32Array.from(best, (position) => (row.logits[position] as number) - logSum),
    },
  };
}

/** Positions of the `count` largest logits, largest first; of equal ones the earlier first. `count` is small: insertion. */
function topPositions(row: LogitRow, count: number): number[] {
  const best: number[] = [];
  if (count === 0) return best;
  let lowest = Number.NEGATIVE_INFINITY;
  for (let position = row.start; position < row.start + row.width; position++) {
    const logit = row.logits[position] as number;
    if (!(logit > lowest) && best.length === count) continue;
    if (!(logit > Number.NEGATIVE_INFINITY)) continue;
    let place = best.length;
    while (place > 0 && (row.logits[best[place - 1] as number] as number) < logit) place--;
    best.splice(place, 0, position);
    if (best.length > count) best.pop();
    if (best.length === count) lowest = row.logits[best[count - 1] as number] as number;
  }
  return best;
}

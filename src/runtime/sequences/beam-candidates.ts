import { stepsPerUnit } from '../sampling/exponential.ts';
import { sumWeights } from '../sampling/histogram.ts';
import { type LogitRow, likeliest } from '../sampling/logit-row.ts';
import type { BeamCandidate } from './beam-search.ts';

/**
 * The tokens that may follow a beam: the `width` likeliest of those that do not end the text, and all that do.
 * @param temperature what the logits are divided by
 * @returns none where no token is possible
 */
export function beamCandidates(
  row: LogitRow,
  width: number,
  stopTokens: ReadonlySet<number>,
  temperature: number,
): BeamCandidate[] {
  const { logits, start } = row;
  const at = likeliest(row);
  if (at < 0) return [];
  const max = logits[at] as number;
  const normalizer = max / temperature + Math.log(sumWeights(row, max, stepsPerUnit / temperature));
  const candidate = (token: number, isStop: boolean): BeamCandidate => {
    return { token, logprob: (logits[start + token] as number) / temperature - normalizer, isStop };
  };
  const going = likeliestBut(row, width, stopTokens).map((token) => candidate(token, false));
  const ending = [...stopTokens].map((token) => candidate(token, true));
  return [...going, ...ending].filter(({ logprob }) => logprob > Number.NEGATIVE_INFINITY);
}

/** The likeliest tokens outside a set, likeliest first; of equal ones the lower id. */
function likeliestBut({ logits, start, width }: LogitRow, count: number, but: ReadonlySet<number>): number[] {
  const best: number[] = [];
  let least = Number.NEGATIVE_INFINITY;
  for (let token = 0; token < width; token++) {
    const logit = logits[start + token] as number;
    if (!(logit > least) || but.has(token)) continue;
    let place = best.length;
    while (place > 0 && (logits[start + (best[place - 1] as number)] as number) < logit) place--;
    best.splice(place, 0, token);
    if (best.length > count) best.pop();
    if (best.length === count) least = logits[start + (best[count - 1] as number)] as number;
  }
  return best;
}

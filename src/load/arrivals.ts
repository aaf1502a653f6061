import { SeededRandom } from '../base/random.ts';
import { exponential, gamma } from './distributions.ts';
import { LoadError } from './errors.ts';

/** When requests arrive in an open loop. All randomness comes from the seed given with it. */
export type Arrivals =
  /** All at time 0. */
  | { kind: 'at-once' }
  /** One every 1 / rate seconds, from time 0 on. */
  | { kind: 'constant'; ratePerSecond: number }
  /** Independent arrivals: exponential gaps with mean 1 / rate. */
  | { kind: 'poisson'; ratePerSecond: number }
  /** Gamma-distributed gaps with mean 1 / rate and shape `burstiness`: below 1 burstier than Poisson, above 1 more regular (as in vLLM). */
  | { kind: 'gamma'; ratePerSecond: number; burstiness: number }
  /** As recorded: ascending milliseconds from the run's start. Repeats, shifted by its length, when more are needed. */
  | { kind: 'replay'; offsetsMs: readonly number[] };

/** Keeps the arrivals' random numbers apart from those of the workload that has the same seed. */
const arrivalSalt = 0x61727276;

/**
 * The first `count` arrival times in milliseconds from the start, ascending.
 * @throws LoadError LOAD_OPTION_INVALID for a rate or burstiness that is not positive, or an empty replay
 */
export function arrivalOffsetsMs(arrivals: Arrivals, count: number, seed: number): Float64Array {
  const offsets = new Float64Array(count);
  if (arrivals.kind === 'at-once') return offsets;
  if (arrivals.kind === 'replay') return replayed(arrivals.offsetsMs, offsets);
  const { ratePerSecond } = arrivals;
  if (!(ratePerSecond > 0 && Number.isFinite(ratePerSecond)))
    throw new LoadError('LOAD_OPTION_INVALID', `a request rate of ${ratePerSecond} is not above 0`);
  const meanMs = 1000 / ratePerSecond;
  if (arrivals.kind === 'constant') return offsets.map((_, index) => index * meanMs);
  const random = new SeededRandom(seed * 2 + arrivalSalt);
  const gapMs = gapsOf(arrivals, meanMs, random);
  let atMs = 0;
  for (let index = 0; index < count; index++) {
    atMs += gapMs();
    offsets[index] = atMs;
  }
  return offsets;
}

function gapsOf(
  arrivals: Extract<Arrivals, { kind: 'poisson' | 'gamma' }>,
  meanMs: number,
  random: SeededRandom,
): () => number {
  if (arrivals.kind === 'poisson') return () => exponential(random, meanMs);
  const { burstiness } = arrivals;
  if (!(burstiness > 0 && Number.isFinite(burstiness)))
    throw new LoadError('LOAD_OPTION_INVALID', `a burstiness of ${burstiness} is not above 0`);
  return () => gamma(random, burstiness, meanMs / burstiness);
}

function replayed(recorded: readonly number[], offsets: Float64Array): Float64Array {
  const firstMs = recorded[0];
  const lastMs = recorded.at(-1);
  if (firstMs === undefined || lastMs === undefined)
    throw new LoadError('LOAD_OPTION_INVALID', 'the arrival trace has no entry');
  // One mean gap between the last arrival of a round and the first of the next.
  const roundMs = lastMs - firstMs + (lastMs - firstMs) / Math.max(1, recorded.length - 1);
  return offsets.map((_, index) => {
    const round = Math.floor(index / recorded.length);
    return round * roundMs + ((recorded[index % recorded.length] ?? 0) - firstMs);
  });
}

/** A few words for reports: `poisson at 10/s`. */
export function describeArrivals(arrivals: Arrivals): string {
  if (arrivals.kind === 'at-once') return 'all at once';
  if (arrivals.kind === 'replay') return `replay of ${arrivals.offsetsMs.length} recorded arrivals`;
  const rate = `${arrivals.kind} at ${arrivals.ratePerSecond}/s`;
  return arrivals.kind === 'gamma' ? `${rate}, burstiness ${arrivals.burstiness}` : rate;
}

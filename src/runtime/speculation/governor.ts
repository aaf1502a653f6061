import { blend, StepCosts } from './step-costs.ts';

/**
 * Numbers of drafts a sequence that are considered: few, so that a device which records a graph for each mix of row counts meets few. With the known token before them most make 4,
 * 8, 16 rows, which matrix kernels take whole: on a CPU nine rows took 1.7 times as long as eight (nereid-16m in bf16).
 */
const draftCounts = [1, 2, 3, 5, 7, 11, 15, 23, 31] as const;

/** Drafts of one sequence in one step at most. */
export const draftTokensMax = 32;

/** What a sequence's drafts are thought to be worth before any was verified. */
const acceptancePrior = 0.7;

/** Weight of one verified draft against what was known of its sequence, and of all sequences. */
const sequenceWeight = 0.12;
const overallWeight = 0.02;

/**
 * With each token that a sequence makes without drafts, what is thought of it returns so far to what is thought of all, and to
 * {@link acceptanceFloor} at least: it is tried again after a few dozen tokens. A failed trial costs a fraction of a step.
 */
const recovery = 0.01;
const acceptanceFloor = 0.5;

/** A gain below it may be none: both sides are estimates. */
const gainMin = 1.1;

/** Steps without drafts after which a size that never ran is tried, and the drafts that it is tried with. */
const trialSteps = 256;
const trialCount = 2;

/** What the governor keeps of a sequence. */
export interface DraftRecord {
  /** The chance that a draft behind accepted ones holds. */
  acceptance: number;
  /** Times in a row that the drafter had nothing to propose. */
  misses: number;
}

/**
 * How many drafts pay. A verified row costs less than a step of its own only while the device has room to spare, and only as long as drafts
 * hold; so what steps of each size were measured to take is weighed against what they bring, and the number of drafts that makes
 * most tokens a second is asked for, which may be none.
 */
export class Governor {
  readonly #draftsMax: number;
  readonly #costs = new StepCosts();
  /** Nanoseconds for one draft of so many sequences. */
  readonly #draftCosts = new Map<number, number>();
  #overall = acceptancePrior;
  #plainSteps = 0;

  /** @param draftsMax of one sequence in one step */
  constructor(draftsMax: number) {
    this.#draftsMax = draftsMax;
  }

  /** What is kept of a new sequence. */
  record(): DraftRecord {
    return { acceptance: this.#overall, misses: 0 };
  }

  /**
   * Drafts for each of some sequences in the next step; 0 for none.
   * @param records of those that may have drafts
   * @param others sequences that have a row in the step and no drafts
   */
  draftCount(records: readonly DraftRecord[], others: number): number {
    const sequences = records.length + others;
    let best = 0;
    let bestGain = gainMin;
    for (const count of draftCounts) {
      if (count > this.#draftsMax) break;
      const gain = (expected(records, count) + others) / sequences / this.#cost(records, sequences, count);
      if (gain <= bestGain) continue;
      best = count;
      bestGain = gain;
    }
    if (best > 0) this.#plainSteps = 0;
    else if (++this.#plainSteps > trialSteps) return this.#trial(records.length, sequences);
    return best;
  }

  /** A size of which nothing is known is tried now and then: what it costs was only supposed. */
  #trial(own: number, sequences: number): number {
    const count = Math.min(trialCount, this.#draftsMax);
    if (!this.#costs.isKnown(sequences, sequences + own * count)) return count;
    this.#plainSteps = 0;
    return 0;
  }

  /** A step with drafts, drafting included, in plain steps. */
  #cost(records: readonly DraftRecord[], sequences: number, count: number): number {
    const rows = sequences + records.length * count;
    const plainNs = this.#costs.plainNs(sequences);
    const draftNs = (this.#draftCosts.get(records.length) ?? 0) * count;
    return this.#costs.relative(sequences, rows) + (plainNs ? draftNs / plainNs : 0);
  }

  /** A step of generating sequences took so long, drafting apart. */
  noteStep(sequences: number, rows: number, ns: number): void {
    this.#costs.note(sequences, rows, ns);
  }

  /** Drafting `count` tokens for each of some sequences took so long. */
  noteDrafting(sequences: number, count: number, ns: number): void {
    blend(this.#draftCosts, sequences, ns / count);
  }

  /** Some of a sequence's drafts held. */
  noteVerified(record: DraftRecord, drafts: number, accepted: number): void {
    // Of the drafts behind the first one that does not hold nothing is known.
    const trials = Math.min(drafts, accepted + 1);
    for (let trial = 0; trial < trials; trial++) {
      const outcome = trial < accepted ? 1 : 0;
      record.acceptance += (outcome - record.acceptance) * sequenceWeight;
      this.#overall += (outcome - this.#overall) * overallWeight;
    }
  }

  /** A sequence that might have had drafts goes without in a step. */
  notePlain(record: DraftRecord): void {
    const acceptance = Math.max(this.#overall, acceptanceFloor);
    if (record.acceptance < acceptance) record.acceptance += (acceptance - record.acceptance) * recovery;
  }
}

/** Tokens that sequences with `count` drafts each bring on average. */
function expected(records: readonly DraftRecord[], count: number): number {
  let tokens = 0;
  for (const { acceptance } of records) {
    const held = acceptance >= 1 ? count : (acceptance - acceptance ** (count + 1)) / (1 - acceptance);
    tokens += 1 + held;
  }
  return tokens;
}

import type { Clock } from '../../base/clock.ts';
import { addOptionalRows, type PlannedRows } from '../plan/scheduler.ts';
import type { Sequence } from '../sequences/sequence.ts';
import type { DraftSink } from '../step/consumers/draft-rows.ts';
import type { Drafter, DraftWish } from './drafter.ts';
import { type DraftRecord, Governor } from './governor.ts';
import { NgramDrafter } from './ngram.ts';

/** What an engine counts of drafts. */
export interface DraftCounters {
  /** Times that drafts of a sequence were verified. */
  draftSteps: number;
  draftTokens: number;
  acceptedDraftTokens: number;
  /** By place behind the last known token. */
  acceptedDraftsByPlace: number[];
}

/** How an engine speculates. */
export interface SpeculationOptions {
  /** Absent: only requests that bring a prediction or drafts of their own have any. */
  drafter?: Drafter | undefined;
  /** Drafts of a sequence in a step at most. Default {@link draftsDefault}. */
  draftsMax?: number | undefined;
}

/** With the known token before them eight rows. */
export const draftsDefault = 7;

/**
 * Where steps overlap, a sequence that is to have drafts gives that up; after so many fruitless looks in a row it runs as many steps, up to this, before
 * the drafter looks again.
 */
const restStepsMax = 8;

interface Entry {
  readonly drafter: Drafter;
  readonly record: DraftRecord;
  /** Steps that it runs without the drafter being asked. */
  rest: number;
}

/**
 * Draft tokens in the loop: before a step is planned a drafter guesses for the sequences that wait for it, the plan gives the guesses what is left
 * of its budget, and what became of them decides how long the next ones are. Costs nothing while no sequence may have drafts.
 */
export class Speculation implements DraftSink {
  readonly #drafter: Drafter | undefined;
  readonly #overlaps: boolean;
  readonly #clock: Clock;
  readonly #counters: DraftCounters;
  readonly #governor: Governor;
  readonly #entries = new Map<Sequence, Entry>();
  /** For requests that bring a prediction to an engine without a drafter. */
  #lookup: NgramDrafter | undefined;
  /** Whether any request brought drafts of its own. */
  #hasExternal = false;
  #draftingNs = 0;

  /** @param overlaps whether steps are launched before the one before them is collected */
  constructor(
    { drafter, draftsMax = draftsDefault }: SpeculationOptions,
    clock: Clock,
    counters: DraftCounters,
    overlaps: boolean,
  ) {
    this.#overlaps = overlaps;
    this.#drafter = drafter;
    this.#clock = clock;
    this.#counters = counters;
    this.#governor = new Governor(draftsMax);
  }

  /** A request came: what it brings is used from its first step on. */
  add(sequences: readonly Sequence[]): void {
    for (const sequence of sequences) {
      const { draft, prediction, speculation } = sequence.owner.request;
      if (draft) {
        sequence.drafts = Array.from(draft.tokens);
        this.#hasExternal = true;
      }
      if (prediction || speculation?.lookup) this.#lookup ??= new NgramDrafter();
      sequence.showsHidden = this.#drafterOf(sequence)?.takeHidden !== undefined;
    }
  }

  /** Whether any sequence may get drafts from a drafter. */
  get isOn(): boolean {
    return this.#drafter !== undefined || this.#lookup !== undefined;
  }

  /**
   * Guesses for those of the running sequences that wait for a step.
   * @returns a promise where the drafter's device answers later; sequences may come and end meanwhile
   */
  draft(running: readonly Sequence[]): void | Promise<void> {
    this.#draftingNs = 0;
    this.#forgetEnded();
    const candidates: Sequence[] = [];
    const records: DraftRecord[] = [];
    let others = 0;
    for (const sequence of running) {
      const entry = sequence.isGenerating ? this.#entryOf(sequence) : undefined;
      if (entry && entry.rest > 0) {
        entry.rest--;
        sequence.isSpeculating = false;
        others++;
      } else if (entry) {
        candidates.push(sequence);
        records.push(entry.record);
      } else others++;
    }
    if (candidates.length === 0) return;
    const count = this.#governor.draftCount(records, others);
    for (const sequence of candidates) sequence.isSpeculating = count > 0;
    if (count === 0) for (const record of records) this.#governor.notePlain(record);
    else return this.#propose(candidates, count);
  }

  #propose(candidates: readonly Sequence[], count: number): void | Promise<void> {
    const wishes = new Map<Drafter, DraftWish[]>();
    let wished = 0;
    for (const sequence of candidates) {
      const room = sequence.positionsWorst - sequence.length - 1;
      const draftsMax = Math.min(count, room, sequence.owner.request.speculation?.draftsMax ?? count);
      const entry = this.#entries.get(sequence);
      if (!entry || draftsMax <= 0 || !sequence.isAwaitingStep) continue;
      const own = wishes.get(entry.drafter);
      if (own) own.push({ sequence, draftsMax });
      else wishes.set(entry.drafter, [{ sequence, draftsMax }]);
      wished++;
    }
    if (wished === 0) return;
    const startNs = this.#clock.nowNs();
    const pending: Promise<void>[] = [];
    for (const [drafter, own] of wishes) {
      const result = drafter.propose(own);
      if (result) pending.push(result);
    }
    const done = () => {
      this.#draftingNs = this.#clock.nowNs() - startNs;
      this.#governor.noteDrafting(wished, count, this.#draftingNs);
      for (const own of wishes.values()) for (const { sequence } of own) this.#noteProposed(sequence);
    };
    if (pending.length > 0) return Promise.all(pending).then(done);
    done();
  }

  #noteProposed(sequence: Sequence): void {
    const entry = this.#entries.get(sequence);
    if (!entry) return;
    entry.record.misses = sequence.drafts.length > 0 ? 0 : entry.record.misses + 1;
    if (this.#overlaps) entry.rest = Math.min(restStepsMax, entry.record.misses);
  }

  /** Adds drafts to a plan, as far as its budget goes. */
  extend(planned: PlannedRows<Sequence>, batchTokensMax: number): void {
    if (!this.isOn && !this.#hasExternal) return;
    const hasDrafts = planned.sequences.some(({ rowsOptional }) => rowsOptional > 0);
    if (!hasDrafts || addOptionalRows(planned, batchTokensMax) === 0) return;
    const { sequences, rows } = planned;
    for (let index = 0; index < rows.length; index++) {
      const { guide, drafts, rowsReady } = sequences[index] as Sequence;
      const own = (rows[index] as number) - rowsReady;
      if (guide && own > 0) guide.foresee(drafts.slice(0, own));
    }
  }

  /** A step of so many rows was collected, and the whole turn took so long. */
  noteStep(
    sequences: readonly Sequence[],
    rows: readonly number[],
    drafts: readonly number[],
    ns: number,
  ): void {
    let total = 0;
    for (let index = 0; index < rows.length; index++) {
      const own = rows[index] as number;
      // Steps that hold a prompt's chunks tell nothing.
      if (own - (drafts[index] as number) !== 1) return;
      total += own;
    }
    this.#governor.noteStep(sequences.length, total, ns - this.#draftingNs);
  }

  verified(sequence: Sequence, drafts: number, accepted: number): void {
    sequence.draftTokens += drafts;
    sequence.acceptedDraftTokens += accepted;
    this.#counters.draftSteps++;
    this.#counters.draftTokens += drafts;
    this.#counters.acceptedDraftTokens += accepted;
    const byPlace = this.#counters.acceptedDraftsByPlace;
    for (let place = 0; place < accepted; place++) byPlace[place] = (byPlace[place] ?? 0) + 1;
    const entry = this.#entries.get(sequence);
    // Drafts behind the end of a text say nothing of the drafter.
    const tried = sequence.state === 'finished' ? accepted : drafts;
    if (entry) this.#governor.noteVerified(entry.record, tried, accepted);
  }

  hidden(sequence: Sequence, values: Float32Array, row: number): void {
    this.#drafter?.takeHidden?.(sequence, values, row);
  }

  /** Who guesses for a sequence, if anybody does. */
  #drafterOf({ owner }: Sequence): Drafter | undefined {
    const { prediction, speculation, beams } = owner.request;
    if (speculation?.draftsMax === 0 || beams) return undefined;
    return prediction || speculation?.lookup ? this.#lookup : this.#drafter;
  }

  #entryOf(sequence: Sequence): Entry | undefined {
    const known = this.#entries.get(sequence);
    if (known) return known;
    const drafter = this.#drafterOf(sequence);
    if (!drafter) return undefined;
    const entry = { drafter, record: this.#governor.record(), rest: 0 };
    this.#entries.set(sequence, entry);
    return entry;
  }

  #forgetEnded(): void {
    for (const [sequence, { drafter }] of this.#entries) {
      if (sequence.state !== 'finished') continue;
      this.#entries.delete(sequence);
      drafter.forget(sequence);
    }
  }
}

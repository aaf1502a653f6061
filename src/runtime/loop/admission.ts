import type { Clock } from '../../base/clock.ts';
import { samplingFeature } from '../../device/step.ts';
import { type PhaseRecorder, phases } from '../../trace/phases.ts';
import type { KvCache, KvDemand } from '../kv/kv-cache.ts';
import type { CapacityPolicy } from '../plan/capacity.ts';
import { SharedPrefixes } from '../plan/shared-prefixes.ts';
import type { Sequence } from '../sequences/sequence.ts';
import type { EngineCounters } from './counters.ts';
import type { SequenceTable } from './sequence-table.ts';

/** Sequences admitted before one step: each costs the step some microseconds of host time, for which all running ones wait. */
export const admissionsPerStepMax = 64;

/** What admission is told. */
export interface AdmissionOptions {
  policy: CapacityPolicy;
  cache: KvCache;
  table: SequenceTable;
  sequencesMax: number;
  prefixReuse: boolean;
  sharedPrefixPositionsMin: number;
  samplingFeatures: number;
  counters: EngineCounters;
  clock: Clock;
  trace: PhaseRecorder;
}

/** Lets waiting sequences into the cache and pauses running ones, as the capacity policy decides. */
export class Admission {
  readonly #options: AdmissionOptions;
  /** Absent where nobody may take another's prefix, or wait for it. */
  readonly #shared: SharedPrefixes<Sequence> | undefined;

  constructor(options: AdmissionOptions) {
    this.#options = options;
    const { prefixReuse, policy, cache, sharedPrefixPositionsMin } = options;
    if (prefixReuse && policy.canHoldBack)
      this.#shared = new SharedPrefixes(cache.chunkPositions, sharedPrefixPositionsMin);
  }

  /** @param onFailed hears of those that did not get in, though the policy had counted on it: admission failed for them alone */
  apply(onFailed: (sequence: Sequence, error: unknown) => void): void {
    const { table, policy, cache, sequencesMax } = this.#options;
    const shared = this.#shared;
    if (shared?.settle()) table.isChanged = true;
    if (!table.isChanged && !policy.isPerStep) return;
    table.isChanged = false;
    if (table.waiting.items.length === 0 && !policy.isPerStep) return;
    const plan = policy.plan<Sequence>({
      running: table.running.items,
      waiting: table.waiting.items,
      hasWaitingOfBegun: table.waitingOfBegun > 0,
      // What leaves holds its memory and its sampling state until nothing of it is in flight.
      sequencesMax: sequencesMax - table.leaving,
      admissionsMax: admissionsPerStepMax,
      unitsFree: cache.unitsFree,
      isHeldBack: (sequence) => shared?.isWaiting(sequence) ?? false,
      cost: (sequence, positions) => this.#cost(sequence, positions),
      growth: (sequence, positions) => (sequence.place ? cache.growth(sequence.place, positions) : 0),
      held: (sequence) => (sequence.place ? cache.held(sequence.place) : 0),
    });
    for (const sequence of plan.pause) table.pause(sequence);
    // Those behind one that waits are looked at again before the next step.
    if (plan.admit.length === admissionsPerStepMax) table.isChanged = true;
    for (const sequence of plan.admit) {
      if (shared && this.#waitsForPrefix(sequence, shared)) {
        table.isChanged = true;
        continue;
      }
      try {
        this.#admit(sequence);
      } catch (thrown) {
        onFailed(sequence, thrown);
      }
    }
  }

  #admit(sequence: Sequence): void {
    const { table, policy, cache, counters, clock, trace, prefixReuse, samplingFeatures } = this.#options;
    const { owner } = sequence;
    const place = cache.reserve(this.#demand(sequence), policy.reservation(sequence));
    sequence.place = place;
    sequence.launched = place.cached;
    sequence.committed = place.cached;
    table.start(sequence);
    if (owner.grammar) {
      sequence.guide = owner.grammar.open(() => sequence.outputTokens());
    }
    this.#shared?.begin(sequence);
    const { features } = owner.sampling;
    const isDeviceChoosing = (features & ~samplingFeatures) === 0;
    if (isDeviceChoosing && features & samplingFeature.state) table.giveSamplingState(sequence);
    if (owner.request.beams) this.#admitBeams(sequence);
    if (!Number.isNaN(owner.startNs)) return;
    const { id } = owner.request;
    trace.end(phases.queue, id);
    trace.begin(phases.prefill, id);
    owner.startNs = clock.nowNs();
    owner.cachedTokens = place.cached;
    table.queuedRequests--;
    counters.promptTokens += sequence.promptLength;
    counters.cachedPromptTokens += place.cached;
    if (!prefixReuse) return;
    counters.prefixQueries += sequence.promptLength;
    counters.prefixHits += place.cached;
  }

  /** Places for the other beams of a request, which hold nothing until they are forked. */
  #admitBeams(leader: Sequence): void {
    const { table, policy, cache } = this.#options;
    for (const sequence of leader.owner.sequences) {
      if (sequence === leader) continue;
      sequence.place = cache.reserve(emptyDemand(sequence), policy.reservation(sequence));
      table.hold(sequence);
    }
  }

  #cost(sequence: Sequence, positions: number): number {
    const { cache } = this.#options;
    const own = cache.cost(this.#demand(sequence), positions);
    if (sequence.places === 1) return own;
    return own + (sequence.places - 1) * cache.cost(emptyDemand(sequence), positions);
  }

  #waitsForPrefix(sequence: Sequence, shared: SharedPrefixes<Sequence>): boolean {
    return !sequence.owner.isPromptComputed && shared.shouldWait(sequence, reusableMax(sequence));
  }

  #demand(sequence: Sequence): KvDemand {
    const { owner } = sequence;
    return {
      prefixKey: owner.prefixKey,
      tokens: sequence,
      reusableMax: reusableMax(sequence),
      fork: this.#fork(sequence),
      promptLength: sequence.promptLength,
      retention: owner.request.retention,
    };
  }

  /** The prompt's KV in another sequence of the same request, for one that has made nothing that the cache may know better. */
  #fork(sequence: Sequence): KvDemand['fork'] {
    const { owner } = sequence;
    if (!owner.isPromptComputed || (sequence.generated > 0 && this.#options.prefixReuse)) return undefined;
    const source = owner.sequences.find(({ place, committed }) => place && committed > 0);
    if (!source?.place) return undefined;
    const length = Math.min(source.committed, sequence.promptLength, sequence.length - 1);
    return length > 0 ? { place: source.place, length } : undefined;
  }
}

/** One row at least is always computed, for its logits. */
function reusableMax({ owner, length }: Sequence): number {
  return owner.needsPromptRows ? 0 : length - 1;
}

function emptyDemand(sequence: Sequence): KvDemand {
  const { prefixKey, promptLength } = sequence;
  return { prefixKey, tokens: sequence, reusableMax: 0, promptLength };
}

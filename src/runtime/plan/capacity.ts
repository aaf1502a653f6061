import { UnknownNameError } from '../../base/registry.ts';

/** What a capacity policy must know of a sequence; counts are KV positions. */
export interface CapacityClaim {
  /** Which request it belongs to, by arrival. */
  readonly arrival: number;
  /** Tokens known or under way: what the next steps will write at least. */
  readonly positionsKnown: number;
  /** What it can come to at most. */
  readonly positionsWorst: number;
  /** Sequences that are admitted with it, itself included: beams run together or not at all. */
  readonly places: number;
}

/** What a policy decides on: who runs, who waits, and how much there is. KV memory is counted in the cache's units. */
export interface CapacityState<S extends CapacityClaim> {
  /** By urgency. */
  running: readonly S[];
  /** By urgency; none of them holds anything. */
  waiting: readonly S[];
  /** Whether any of `waiting` belongs to a request that has begun. */
  hasWaitingOfBegun: boolean;
  sequencesMax: number;
  /** Sequences that may be admitted now: each costs host time, which others wait for. */
  admissionsMax: number;
  /** Units that no running sequence holds or was promised. */
  unitsFree: number;
  /** Whether a waiting sequence rather waits for what a running one computes: it is passed over. */
  isHeldBack(claim: S): boolean;
  /** Units that admitting a waiting sequence with room for `positions` would take. */
  cost(claim: S, positions: number): number;
  /** Units that a running sequence needs beyond those that it has, for room for `positions`. */
  growth(claim: S, positions: number): number;
  /** Units that pausing a running sequence would free, at least. */
  held(claim: S): number;
}

/** What a policy decided. */
export interface CapacityPlan<S extends CapacityClaim> {
  admit: S[];
  /** To be taken out of the cache and queued again; they compute their tokens anew. */
  pause: S[];
}

/** Who may hold KV memory. Pure. Names are TensorRT-LLM's (`batch_scheduler_policy`). */
export interface CapacityPolicy {
  readonly name: string;
  /** Whether it must be asked before every step, or only when something came, ended or was cancelled. */
  readonly isPerStep: boolean;
  /** Whether sequences may be passed over for some steps; what joins a static batch must be there at its start. */
  readonly canHoldBack: boolean;
  /** Positions to reserve when a sequence is admitted, and to have before its next step. */
  reservation(claim: CapacityClaim): number;
  plan<S extends CapacityClaim>(state: CapacityState<S>): CapacityPlan<S>;
}

/** Growth that `max_utilization` leaves free for each sequence when it admits one, so that it does not pause it at once. */
export const growthHeadroomPositions = 32;

/**
 * In order of urgency: one that does not fit holds back all behind it, so that large requests cannot starve. Only those are passed over that are
 * held back until a running one has computed what they need.
 */
function admitInOrder<S extends CapacityClaim>(
  state: CapacityState<S>,
  waiting: readonly S[],
  unitsFree: number,
  positions: (claim: S) => number,
): S[] {
  const admit: S[] = [];
  const room = Math.min(state.sequencesMax - state.running.length, state.admissionsMax);
  let units = 0;
  let places = 0;
  for (let index = 0; index < waiting.length && places < room; index++) {
    const claim = waiting[index] as S;
    if (state.isHeldBack(claim)) continue;
    units += state.cost(claim, positions(claim));
    places += claim.places;
    if (units > unitsFree || places > room) break;
    admit.push(claim);
  }
  return admit;
}

const worst = (claim: CapacityClaim) => claim.positionsWorst;

/** Reserves the worst case at admission: what runs never has to stop for memory. */
const guaranteedNoEvict: CapacityPolicy = {
  name: 'guaranteed_no_evict',
  isPerStep: false,
  canHoldBack: true,
  reservation: worst,
  plan: (state) => ({ admit: admitInOrder(state, state.waiting, state.unitsFree, worst), pause: [] }),
};

/** Reserves what is needed now, and pauses the least urgent when it runs out. */
const maxUtilization: CapacityPolicy = {
  name: 'max_utilization',
  isPerStep: true,
  canHoldBack: true,
  reservation: (claim) => claim.positionsKnown,
  plan: (state) => {
    const { running } = state;
    let needed = 0;
    for (const claim of running) needed += state.growth(claim, claim.positionsKnown);
    let free = state.unitsFree;
    let kept = running.length;
    // The most urgent one always fits: its worst case alone fits the cache.
    while (needed > free && kept > 1) {
      const claim = running[--kept] as (typeof running)[number];
      needed -= state.growth(claim, claim.positionsKnown);
      free += state.held(claim);
    }
    const pause = running.slice(kept);
    if (pause.length > 0) return { admit: [], pause };
    const wanted = (claim: CapacityClaim) =>
      Math.min(claim.positionsWorst, claim.positionsKnown + growthHeadroomPositions);
    return { admit: admitInOrder(state, state.waiting, free - needed, wanted), pause: [] };
  },
};

/** Version 1 batching: a batch forms when the last one has wholly ended. The other sequences of its requests may still join. */
const staticBatch: CapacityPolicy = {
  name: 'static_batch',
  isPerStep: false,
  canHoldBack: false,
  reservation: worst,
  plan: (state) => {
    let { waiting } = state;
    if (state.running.length > 0) {
      if (!state.hasWaitingOfBegun) return { admit: [], pause: [] };
      const arrivals = new Set(state.running.map((claim) => claim.arrival));
      waiting = waiting.filter((claim) => arrivals.has(claim.arrival));
    }
    return { admit: admitInOrder(state, waiting, state.unitsFree, worst), pause: [] };
  },
};

const policies: readonly CapacityPolicy[] = [guaranteedNoEvict, maxUtilization, staticBatch];

export const capacityPolicyNames: readonly string[] = policies.map((policy) => policy.name);

/** @throws UnknownNameError listing the known ones */
export function capacityPolicy(name: string): CapacityPolicy {
  const policy = policies.find((candidate) => candidate.name === name);
  if (!policy) throw new UnknownNameError('capacity policy', name, capacityPolicyNames);
  return policy;
}

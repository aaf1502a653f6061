import { UnknownNameError } from '../../base/registry.ts';

/** What a capacity policy must know of a sequence; counts are KV positions. */
export interface CapacityClaim {
  /** Which request it belongs to, by arrival. */
  readonly arrival: number;
  /** Tokens known: what the next steps will write at least. */
  readonly length: number;
  /** What it can come to at most. */
  readonly positionsWorst: number;
}

/** What a policy decides on: who runs, who waits, and how much there is. */
export interface CapacityState<S extends CapacityClaim> {
  /** By urgency. */
  running: readonly S[];
  /** By urgency; none of them holds anything. */
  waiting: readonly S[];
  sequencesMax: number;
  positionsMax: number;
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
  /** Positions to reserve when a sequence is admitted, and to have before its next step. */
  reservation(claim: CapacityClaim): number;
  plan<S extends CapacityClaim>(state: CapacityState<S>): CapacityPlan<S>;
}

/** Growth that `max_utilization` leaves free for each running sequence when it admits one, so that it does not pause it at once. */
export const growthHeadroomPositions = 32;

/** Strictly in order of urgency: one that does not fit holds back all behind it, so that large requests cannot starve. */
function admitInOrder<S extends CapacityClaim>(
  state: CapacityState<S>,
  kept: readonly S[],
  cost: (claim: S) => number,
): S[] {
  const admit: S[] = [];
  let positions = kept.reduce((sum, claim) => sum + cost(claim), 0);
  for (const claim of state.waiting) {
    positions += cost(claim);
    if (kept.length + admit.length >= state.sequencesMax || positions > state.positionsMax) break;
    admit.push(claim);
  }
  return admit;
}

/** Reserves the worst case at admission: what runs never has to stop for memory. */
const guaranteedNoEvict: CapacityPolicy = {
  name: 'guaranteed_no_evict',
  reservation: (claim) => claim.positionsWorst,
  plan: (state) => ({
    admit: admitInOrder(state, state.running, (claim) => claim.positionsWorst),
    pause: [],
  }),
};

/** Reserves what is needed now, and pauses the least urgent when it runs out. */
const maxUtilization: CapacityPolicy = {
  name: 'max_utilization',
  reservation: (claim) => claim.length,
  plan: (state) => {
    let positions = 0;
    let kept = 0;
    for (const claim of state.running) {
      if (positions + claim.length > state.positionsMax) break;
      positions += claim.length;
      kept++;
    }
    const pause = state.running.slice(kept);
    if (pause.length > 0) return { admit: [], pause };
    const cost = (claim: CapacityClaim) =>
      Math.min(claim.positionsWorst, claim.length + growthHeadroomPositions);
    return { admit: admitInOrder(state, state.running, cost), pause: [] };
  },
};

/** Version 1 batching: a batch forms when the last one has wholly ended. The other sequences of its requests may still join. */
const staticBatch: CapacityPolicy = {
  name: 'static_batch',
  reservation: (claim) => claim.positionsWorst,
  plan: (state) => {
    const arrivals = new Set(state.running.map((claim) => claim.arrival));
    const waiting =
      arrivals.size === 0 ? state.waiting : state.waiting.filter((claim) => arrivals.has(claim.arrival));
    return {
      admit: admitInOrder({ ...state, waiting }, state.running, (claim) => claim.positionsWorst),
      pause: [],
    };
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

import { definite } from '../../base/errors.ts';

/** One engine as a router sees it. */
export interface EngineView {
  /** Tokens that it still has to compute for what was sent to it (`engine-load.ts`). */
  readonly tokensOutstanding: number;
  /** Tokens at the beginning of the prompt to be routed whose KV it has, or will have. */
  readonly tokensKnown: number;
}

/** What is to be routed. */
export interface RoutedRequest {
  promptTokens: number;
  /** How many requests the pool had before. */
  ordinal: number;
}

/** Chooses among engines, of which there is one at least. Pure. @returns an index into `members` */
export type Router = (members: readonly EngineView[], request: RoutedRequest) => number;

/** A way of routing, and what it must be told. */
export interface Routing {
  choose: Router;
  /** Whether {@link EngineView.tokensKnown} is looked at; it is 0 otherwise. */
  usesPrefixes: boolean;
}

/**
 * What an outstanding token weighs against one of the prompt that must be computed. The latter is work that a better choice would save; the
 * former is only a wait, in a batch that it shares. At a half an engine keeps a prompt that it knows until it is ahead of the least loaded
 * by twice what is saved. Of 1/4, 1/2 and 1 it was the fastest, or as fast as any, on each workload of `npm run bench:routing`: at 1/4 one
 * popular prompt fills its engine with twice the mean, at 1 prompts are computed that another engine has.
 */
export const outstandingWeight = 0.5;

/** By name, as `--routing` takes it. */
export const routings = {
  prefix: {
    usesPrefixes: true,
    choose: (members, request) =>
      lowest(members, request, ({ tokensKnown, tokensOutstanding }) => {
        return request.promptTokens - tokensKnown + outstandingWeight * tokensOutstanding;
      }),
  },
  'least-loaded': {
    usesPrefixes: false,
    choose: (members, request) => lowest(members, request, ({ tokensOutstanding }) => tokensOutstanding),
  },
  'round-robin': {
    usesPrefixes: false,
    choose: (members, { ordinal }) => ordinal % members.length,
  },
} as const satisfies Record<string, Routing>;

export type RoutingName = keyof typeof routings;

export const routingNames = Object.keys(routings) as RoutingName[];

export const routingDefault: RoutingName = 'prefix';

/** The member with the lowest cost; of equal ones each in turn, so that an idle pool's first engine does not get everything. */
function lowest(
  members: readonly EngineView[],
  { ordinal }: RoutedRequest,
  cost: (member: EngineView) => number,
): number {
  let best = -1;
  let bestCost = Number.POSITIVE_INFINITY;
  for (let offset = 0; offset < members.length; offset++) {
    const index = (ordinal + offset) % members.length;
    const own = cost(definite(members[index], 'a member'));
    if (own >= bestCost) continue;
    best = index;
    bestCost = own;
  }
  return best;
}

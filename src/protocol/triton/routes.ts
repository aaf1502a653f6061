import type { RestrictedApi, TritonContext } from './context.ts';
import type { HttpAnswer } from './responses.ts';

/** The match of a route's pattern. */
export type RouteGroups = RegExpExecArray;

/** What a handler sees of the HTTP request. */
export interface TritonExchange {
  method: 'GET' | 'POST';
  body: Buffer;
}

/** One path of the protocol beside inference. */
export interface TritonRoute {
  pattern: RegExp;
  methods: readonly ('GET' | 'POST')[];
  api: RestrictedApi;
  answer(
    context: TritonContext,
    groups: RouteGroups,
    exchange: TritonExchange,
  ): HttpAnswer | Promise<HttpAnswer>;
}

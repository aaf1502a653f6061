import type { PartParser } from '../answer-parts.ts';

/** Where a prompt leaves off: within a reasoning, behind one, or where one may begin. */
export type ReasoningState = 'open' | 'closed' | 'may-begin';

/** A way in which models set their reasoning apart from their answer. */
export interface ReasoningFormat {
  /** What begins and ends it. */
  readonly start: string;
  readonly end: string;
  stateAfter(prompt: string): ReasoningState;
  /** @param prompt the rendered chat, which may have begun the reasoning, or closed it */
  createParser(prompt: string): PartParser;
}

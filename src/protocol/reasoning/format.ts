import type { PartParser } from '../answer-parts.ts';

/** A way in which models set their reasoning apart from their answer. */
export interface ReasoningFormat {
  /** @param prompt the rendered chat, which may have begun the reasoning, or closed it */
  createParser(prompt: string): PartParser;
}

import type { AnswerReading } from '../answer-parser.ts';
import type { AnswerPart, PartParser } from '../answer-parts.ts';
import { reasoningFields } from './responses.ts';

/** One choice's text as the `delta` objects of a chat stream, its reasoning and its calls to tools apart. */
export class PartDeltas {
  readonly #reading: AnswerReading;
  readonly #parser: PartParser;
  readonly #includeReasoning: boolean;
  hasCalls = false;

  constructor(reading: AnswerReading, includeReasoning: boolean) {
    this.#reading = reading;
    this.#parser = reading.createParser();
    this.#includeReasoning = includeReasoning;
  }

  /** The deltas, as JSON, that a piece of text makes: often none. */
  push(text: string, isEnd: boolean): string[] {
    const parts = this.#parser.push(text);
    if (isEnd) parts.push(...this.#parser.flush());
    return parts
      .filter((part) => part.kind !== 'reasoning' || this.#includeReasoning)
      .map((part) => JSON.stringify(this.#delta(part)));
  }

  #delta(part: AnswerPart): object {
    if (part.kind === 'text') return { content: part.text };
    if (part.kind === 'reasoning') return reasoningFields(part.text);
    if (part.kind === 'arguments') {
      return { tool_calls: [{ index: part.call, function: { arguments: part.text } }] };
    }
    this.hasCalls = true;
    const called = { name: part.name, arguments: '' };
    return {
      tool_calls: [{ index: part.call, id: this.#reading.callId(), type: 'function', function: called }],
    };
  }
}

import type { AnswerPart, PartParser } from '../answer-parts.ts';
import { findMarker } from '../answer-parts.ts';
import type { ReasoningFormat, ReasoningState } from './format.ts';

const start = '<think>';
const end = '</think>';

/** `<think>…</think>` in front of the answer: DeepSeek R1, Qwen 3, SmolLM 3 and many after them. The line breaks at the tags belong to neither. */
class ThinkParser implements PartParser {
  #state: 'start' | 'reasoning' | 'answer-start' | 'answer';
  #pending = '';
  /** Space at the end of the reasoning so far: it may be what stands in front of the tag. */
  #space = '';
  #isFirst = true;

  constructor(isOpen: boolean) {
    this.#state = isOpen ? 'reasoning' : 'start';
  }

  push(text: string): AnswerPart[] {
    this.#pending += text;
    const parts: AnswerPart[] = [];
    if (this.#state === 'start') this.#begin();
    if (this.#state === 'reasoning') this.#takeReasoning(parts);
    if (this.#state === 'answer-start') {
      this.#pending = this.#pending.trimStart();
      if (this.#pending !== '') this.#state = 'answer';
    }
    if (this.#state === 'answer') parts.push(...this.#rest('text'));
    return parts;
  }

  flush(): AnswerPart[] {
    if (this.#state === 'reasoning') return this.#rest('reasoning');
    return this.#state === 'answer-start' ? [] : this.#rest('text');
  }

  #rest(kind: 'text' | 'reasoning'): AnswerPart[] {
    const text = this.#pending;
    this.#pending = '';
    return text === '' ? [] : [{ kind, text }];
  }

  #begin(): void {
    const rest = this.#pending.trimStart();
    if (rest.startsWith(start)) {
      this.#pending = rest.slice(start.length);
      this.#state = 'reasoning';
    } else if (!start.startsWith(rest)) this.#state = 'answer';
  }

  #takeReasoning(parts: AnswerPart[]): void {
    const search = findMarker(this.#pending, [end]);
    this.#pending = search.rest;
    let text = this.#space + search.before;
    if (this.#isFirst) text = text.trimStart();
    const kept = text.trimEnd();
    this.#space = text.slice(kept.length);
    if (kept !== '') {
      this.#isFirst = false;
      parts.push({ kind: 'reasoning', text: kept });
    }
    if (search.found) this.#state = 'answer-start';
  }
}

function stateAfter(prompt: string): ReasoningState {
  if (prompt.lastIndexOf(start) > prompt.lastIndexOf(end)) return 'open';
  return prompt.trimEnd().endsWith(end) ? 'closed' : 'may-begin';
}

export const format: ReasoningFormat = {
  start,
  end,
  stateAfter,
  createParser: (prompt) => new ThinkParser(stateAfter(prompt) === 'open'),
};

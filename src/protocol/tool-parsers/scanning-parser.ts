import { type AnswerPart, findMarker, type PartParser } from '../answer-parts.ts';
import type { CallObject } from './call-object.ts';

/** A parser that goes through an answer from state to state, taking away what it has understood, until it needs more text. */
export abstract class ScanningParser<State extends string> implements PartParser {
  protected state: State;
  /** What has arrived and is not understood yet. */
  protected pending = '';
  /** Calls that were told. */
  protected calls = 0;
  /** The `{"name": …}` that is being read. */
  protected object: CallObject | undefined;

  constructor(start: State) {
    this.state = start;
  }

  push(text: string): AnswerPart[] {
    this.pending += text;
    const parts: AnswerPart[] = [];
    for (let before = ''; this.pending !== '' && before !== this.state + this.pending.length; ) {
      before = this.state + this.pending.length;
      this.advance(parts);
    }
    return parts;
  }

  flush(): AnswerPart[] {
    const held = this.object && !this.object.announced ? this.objectStart + this.object.raw : '';
    const text = held + (this.pendingIsText() ? this.pending : '');
    this.pending = '';
    return text === '' ? [] : [{ kind: 'text', text }];
  }

  /** Takes something of {@link pending}, or changes the state; neither: it waits for more. */
  protected abstract advance(parts: AnswerPart[]): void;

  /** Whether what is pending when the answer ends is text. */
  protected abstract pendingIsText(): boolean;

  /** What stood in front of {@link object} and is text if that is no call. */
  protected objectStart = '';

  /** Text up to the first of some markers. @returns which one; it is taken, too */
  protected takeText(markers: readonly string[], parts: AnswerPart[]): string | undefined {
    const search = findMarker(this.pending, markers);
    if (search.before !== '') parts.push({ kind: 'text', text: search.before });
    this.pending = search.rest;
    return search.found;
  }

  /** The same, of what is no text. */
  protected skipTo(markers: readonly string[]): string | undefined {
    return this.takeText(markers, []);
  }

  /** More of {@link object}. @returns how it ended; undefined: there is more to come */
  protected takeObject(parts: AnswerPart[]): 'call' | 'text' | undefined {
    const { object } = this;
    if (!object) return undefined;
    this.pending = this.pending.slice(object.take(this.pending, 0));
    parts.push(...object.parts());
    if (!object.done && !object.failed) return undefined;
    this.object = undefined;
    if (object.announced) {
      this.calls++;
      return 'call';
    }
    parts.push({ kind: 'text', text: this.objectStart + object.raw });
    return 'text';
  }
}

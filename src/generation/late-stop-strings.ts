import { type StopMatch, StopStringMatcher } from '../tokenizer/stop-strings.ts';

/** One stop string's matcher; its text is counted in UTF-16 units from the beginning of the sequence. */
interface Part {
  stop: string;
  matcher: StopStringMatcher;
  /** Text in which this string cannot begin any more. */
  passed: number;
}

/**
 * A {@link StopStringMatcher} for `min_tokens`: a stop string that ends in text pushed as `heeded: false` is text like any other, one
 * that only begins there counts (as in vLLM). One matcher a string, since dropping one string's match must not drop the beginning of
 * another that overlaps it.
 */
export class LateStopStrings {
  readonly #parts: Part[];
  /** Text held back, and where it begins. */
  #held = '';
  #heldFrom = 0;

  /** @throws TokenizerError STOP_STRING_INVALID */
  constructor(stops: readonly string[]) {
    // Checks the list as a whole.
    new StopStringMatcher(stops);
    this.#parts = stops.map((stop) => ({ stop, matcher: new StopStringMatcher([stop]), passed: 0 }));
  }

  push(piece: string, heeded: boolean): StopMatch {
    this.#held += piece;
    let first: Part | undefined;
    for (const part of this.#parts) {
      if (!this.#advance(part, piece, heeded)) continue;
      // Of several the one that ends first, of those the longest.
      const lead = first ? part.passed + part.stop.length - first.passed - first.stop.length : -1;
      if (!first || lead < 0 || (lead === 0 && part.passed < first.passed)) first = part;
    }
    if (first) return { text: this.#release(first.passed), stopped: first.stop };
    return { text: this.#release(Math.min(...this.#parts.map((part) => part.passed))) };
  }

  /** What was held back, when no more text follows. */
  flush(): string {
    return this.#release(this.#heldFrom + this.#held.length);
  }

  /** @returns whether the string ended in the piece and counts; it then begins at `part.passed` */
  #advance(part: Part, piece: string, heeded: boolean): boolean {
    let match = part.matcher.push(piece);
    part.passed += match.text.length;
    while (match.stopped !== undefined) {
      if (heeded) return true;
      // An ignored one: the next may begin at its second unit.
      part.passed++;
      part.matcher = new StopStringMatcher([part.stop]);
      match = part.matcher.push(this.#held.slice(part.passed - this.#heldFrom));
      part.passed += match.text.length;
    }
    return false;
  }

  #release(to: number): string {
    const text = this.#held.slice(0, to - this.#heldFrom);
    this.#held = this.#held.slice(text.length);
    this.#heldFrom += text.length;
    return text;
  }
}

import { stopStringBytesMax, stopStringsMax } from '../base/limits.ts';
import { TokenizerError } from './errors.ts';

/** What {@link StopStringMatcher.push} makes of a piece of text. */
export interface StopMatch {
  /** Text that is safe to emit: no stop string can begin in it. */
  text: string;
  /** The stop string that ended the text; it is not part of `text`. */
  stopped?: string;
}

/**
 * Finds the first stop string in a text that arrives in pieces, and holds back what may be the start of one. Of several that end at
 * the same place the one that begins first wins; the result does not depend on where the pieces were cut.
 */
export class StopStringMatcher {
  readonly #stops: readonly string[];
  readonly #longest: number;
  #held = '';
  #stopped: string | undefined;

  /** @throws TokenizerError STOP_STRING_INVALID for an empty string, too many, or one over the limit */
  constructor(stops: readonly string[]) {
    if (stops.length > stopStringsMax)
      throw new TokenizerError(
        'STOP_STRING_INVALID',
        `${stops.length} stop strings; at most ${stopStringsMax} are allowed`,
      );
    for (const stop of stops) {
      if (stop.length === 0)
        throw new TokenizerError('STOP_STRING_INVALID', 'a stop string is empty; leave it out');
      if (Buffer.byteLength(stop) > stopStringBytesMax)
        throw new TokenizerError(
          'STOP_STRING_INVALID',
          `a stop string is over ${stopStringBytesMax} bytes; shorten it`,
        );
    }
    this.#stops = stops;
    this.#longest = Math.max(0, ...stops.map((stop) => stop.length));
  }

  push(text: string): StopMatch {
    if (this.#stopped !== undefined) return { text: '', stopped: this.#stopped };
    if (this.#longest === 0) return { text };
    const whole = this.#held + text;
    const found = this.#firstEnding(whole);
    if (found) {
      this.#held = '';
      this.#stopped = found.stop;
      return { text: whole.slice(0, found.start), stopped: found.stop };
    }
    const safe = this.#safeLength(whole);
    this.#held = whole.slice(safe);
    return { text: whole.slice(0, safe) };
  }

  /** What was held back, when no more text follows. */
  flush(): string {
    const text = this.#held;
    this.#held = '';
    return text;
  }

  /** The stop string whose end comes first; of those the longest. */
  #firstEnding(whole: string): { stop: string; start: number } | undefined {
    let found: { stop: string; start: number } | undefined;
    for (const stop of this.#stops) {
      const start = whole.indexOf(stop);
      if (start < 0) continue;
      const end = start + stop.length;
      const foundEnd = found ? found.start + found.stop.length : Number.POSITIVE_INFINITY;
      if (end < foundEnd || (end === foundEnd && found && start < found.start)) found = { stop, start };
    }
    return found;
  }

  /** The length before the earliest suffix that is a proper prefix of a stop string. */
  #safeLength(whole: string): number {
    for (let at = Math.max(0, whole.length - this.#longest + 1); at < whole.length; at++) {
      const length = whole.length - at;
      for (const stop of this.#stops) {
        if (
          length < stop.length &&
          whole.charCodeAt(at) === stop.charCodeAt(0) &&
          whole.endsWith(stop.slice(0, length))
        )
          return at;
      }
    }
    return whole.length;
  }
}

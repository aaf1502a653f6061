import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { stopStringBytesMax, stopStringsMax } from '../base/limits.ts';
import { TokenizerError } from './errors.ts';
import { StopStringMatcher } from './stop-strings.ts';

/** Reads character by character and stops at the first place where the text ends with a stop string (the longest of them). */
function naive(stops: readonly string[], text: string): { text: string; stopped?: string } {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops
      .filter((stop) => text.slice(0, end).endsWith(stop))
      .sort((a, b) => b.length - a.length)[0];
    if (ending !== undefined) return { text: text.slice(0, end - ending.length), stopped: ending };
  }
  return { text };
}

const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '🦜'), maxLength: 30 });
const stopString = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '🦜'), minLength: 1, maxLength: 5 });

test('any cut of any text gives what a naive reading gives', () => {
  fc.assert(
    fc.property(
      fc.array(stopString, { maxLength: 4 }),
      fc.array(letters, { maxLength: 8 }),
      (stops, pieces) => {
        const matcher = new StopStringMatcher(stops);
        let text = '';
        let stopped: string | undefined;
        for (const piece of pieces) {
          const match = matcher.push(piece);
          text += match.text;
          stopped ??= match.stopped;
          assert.equal(match.stopped, stopped);
        }
        text += matcher.flush();
        assert.deepEqual(stopped === undefined ? { text } : { text, stopped }, naive(stops, pieces.join('')));
      },
    ),
    { numRuns: 2000 },
  );
});

test('only what may begin a stop string is held back', () => {
  const matcher = new StopStringMatcher(['</end>']);
  assert.deepEqual(matcher.push('a < b'), { text: 'a < b' });
  assert.deepEqual(matcher.push('c</en'), { text: 'c' });
  assert.deepEqual(matcher.push('o'), { text: '</eno' });
  assert.deepEqual(matcher.push('x</end>y'), { text: 'x', stopped: '</end>' });
  assert.deepEqual(matcher.push('more'), { text: '', stopped: '</end>' });
  assert.equal(matcher.flush(), '');
});

test('empty, too many and too long stop strings are refused', () => {
  const refused = (stops: string[]) =>
    assert.throws(
      () => new StopStringMatcher(stops),
      (error) => error instanceof TokenizerError && error.code === 'STOP_STRING_INVALID',
    );
  refused(['']);
  refused(Array.from({ length: stopStringsMax + 1 }, (_, i) => `s${i}`));
  refused(['x'.repeat(stopStringBytesMax + 1)]);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NgramIndex } from './ngram.ts';
import { ngramLengthsDefault } from './ngram-lengths.ts';

class Text {
  readonly tokens: number[];

  constructor(tokens: number[]) {
    this.tokens = tokens;
  }

  get length(): number {
    return this.tokens.length;
  }

  tokenAt(position: number): number {
    return this.tokens[position]!;
  }
}

test('what followed the last tokens before follows again, from where they stood last', () => {
  const index = new NgramIndex(new Text([1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3]), { min: 2, max: 4 });
  assert.deepEqual(index.continuation(3), [5, 9, 1]);
});

test('longer matches go first, and none is no draft', () => {
  const longer = new NgramIndex(new Text([7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2]), { min: 2, max: 4 });
  assert.deepEqual(longer.continuation(1), [3], 'behind 7 1 2, though 1 2 stood later before 4');
  assert.deepEqual(new NgramIndex(new Text([1, 2, 3, 4]), ngramLengthsDefault).continuation(4), []);
});

test('a repetition goes on in itself', () => {
  const index = new NgramIndex(new Text([1, 2, 3, 1, 2, 3, 1, 2]), ngramLengthsDefault);
  assert.deepEqual(index.continuation(7), [3, 1, 2, 3, 1, 2, 3]);
});

test('a prediction is looked up before anything was said', () => {
  const text = new Text([50, 51]);
  const index = new NgramIndex(text, { min: 1, max: 2 }, Int32Array.of(10, 11, 12, 13));
  assert.deepEqual(index.continuation(2), []);
  text.tokens.push(11);
  assert.deepEqual(index.continuation(2), [12, 13]);
});

test('an index that grew with its text finds what one made at once finds', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(3), { minLength: 1, maxLength: 60 }), fc.nat(59), (tokens, cut) => {
      const text = new Text(tokens.slice(0, 1 + (cut % tokens.length)));
      const grown = new NgramIndex(text, ngramLengthsDefault);
      for (const token of tokens.slice(text.length)) {
        text.tokens.push(token);
        grown.continuation(5);
      }
      const whole = new NgramIndex(new Text(tokens), ngramLengthsDefault);
      assert.deepEqual(grown.continuation(5), whole.continuation(5));
    }),
  );
});

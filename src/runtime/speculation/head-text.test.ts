import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Sequence } from '../sequences/sequence.ts';
import { HeadText, hiddenStatesMax } from './head-text.ts';

/** Tokens at positions: 100, 101, … */
function textOf(sequence: { length: number }): HeadText {
  const own = Object.assign(sequence, { tokenAt: (position: number) => 100 + position });
  return new HeadText(own as unknown as Sequence);
}

const state = (value: number) => Float32Array.of(value);

test('rows pair a state with the token behind it; drafts follow with the head’s own', () => {
  const sequence = { length: 5 };
  const text = textOf(sequence);
  // The prompt's last token is at 4; the next one, at 5, came of its state.
  text.listen(4, state(4));
  sequence.length = 6;
  assert.equal(text.begin(3, 64), true);
  assert.deepEqual([text.computed, text.length, text.nextPosition], [0, 1, 6]);
  assert.deepEqual([text.tokenAt(0), [...text.hiddenAt(0)]], [105, [4]]);
  text.advance(1);
  text.takeHidden(state(40));
  text.drafts.push(7);
  assert.deepEqual([text.length, text.nextPosition, text.tokenAt(1), [...text.hiddenAt(1)]], [2, 7, 7, [40]]);
  text.advance(1);
  // Two positions more were said, the draft among them: their rows come from the target now.
  text.listen(5, state(5));
  text.listen(6, state(6));
  sequence.length = 8;
  assert.equal(text.begin(3, 64), true);
  assert.deepEqual([text.computed, text.length, text.nextPosition], [1, 3, 8]);
  assert.deepEqual(
    [1, 2].map((row) => [text.tokenAt(row), ...text.hiddenAt(row)]),
    [
      [106, 5],
      [107, 6],
    ],
  );
});

test('a gap, too many states, and a full context begin anew', () => {
  const sequence = { length: 3 };
  const text = textOf(sequence);
  assert.equal(text.begin(2, 64), false);
  text.listen(1, state(1));
  assert.equal(text.begin(2, 64), true);
  // Nothing came since.
  text.advance(1);
  assert.equal(text.begin(2, 64), false);
  text.listen(9, state(9));
  sequence.length = 11;
  assert.equal(text.begin(2, 64), true);
  assert.deepEqual([text.computed, text.length, text.tokenAt(0)], [0, 1, 110]);
  for (let position = 10; position < 10 + hiddenStatesMax; position++) text.listen(position, state(position));
  sequence.length = 11 + hiddenStatesMax;
  assert.equal(text.begin(2, 4096), true);
  assert.ok(text.length <= hiddenStatesMax);
  const small = textOf({ length: 6 });
  for (let position = 0; position < 5; position++) small.listen(position, state(position));
  assert.equal(small.begin(3, 7), true);
  assert.deepEqual([small.length, small.tokenAt(0), [...small.hiddenAt(0)]], [1, 105, [4]]);
});

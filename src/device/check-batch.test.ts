import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkBatch } from './check-batch.ts';
import type { StepBatch } from './device.ts';

const limits = { vocabularySize: 100, contextLength: 16, slots: 3, batchTokensMax: 8 };

function batch(changes: Partial<StepBatch> = {}): StepBatch {
  return {
    tokens: Int32Array.of(1, 2, 3, 4),
    positions: Int32Array.of(0, 1, 2, 9),
    segments: [
      { slot: 0, rows: 3, kvLength: 3 },
      { slot: 2, rows: 1, kvLength: 10 },
    ],
    outputRows: Int32Array.of(2, 3),
    want: 'logits',
    ...changes,
  };
}

test('a sound batch passes, one without output rows too', () => {
  checkBatch(batch(), limits);
  checkBatch(batch({ outputRows: Int32Array.of() }), limits);
});

const one = { slot: 0, rows: 3, kvLength: 3 };
const wrong: [string, Partial<StepBatch>, RegExp][] = [
  ['no tokens', { tokens: new Int32Array(0) }, /a step of 0 tokens/],
  ['too many tokens', { tokens: new Int32Array(9) }, /a step of 9 tokens; 1 to 8/],
  ['a negative token', { tokens: Int32Array.of(1, -2, 3, 4) }, /token -2 of row 1/],
  ['a token beyond the vocabulary', { tokens: Int32Array.of(1, 2, 3, 100) }, /token 100 of row 3/],
  ['positions of another length', { positions: Int32Array.of(0) }, /1 positions for 4 tokens/],
  ['a position out of order', { positions: Int32Array.of(0, 2, 1, 9) }, /row 1 has position 2, not 1/],
  ['rows that no segment covers', { segments: [one] }, /segments of 3 rows for 4 tokens/],
  ['a slot twice', { segments: [one, { slot: 0, rows: 1, kvLength: 10 }] }, /slot 0 stands in two/],
  ['an unknown slot', { segments: [one, { slot: 3, rows: 1, kvLength: 10 }] }, /slot 3 of 3/],
  ['a fraction of a slot', { segments: [one, { slot: 0.5, rows: 1, kvLength: 10 }] }, /slot 0.5/],
  ['an empty segment', { segments: [one, { slot: 1, rows: 0, kvLength: 10 }] }, /a segment of 0 rows/],
  [
    'a KV length beyond the context',
    { segments: [one, { slot: 1, rows: 1, kvLength: 17 }] },
    /KV length of 17/,
  ],
  ['a KV length below its rows', { segments: [{ ...one, kvLength: 2 }] }, /KV length of 2 with 3 rows/],
  ['an output row beyond the rows', { outputRows: Int32Array.of(4) }, /output row 4/],
  ['output rows out of order', { outputRows: Int32Array.of(2, 1) }, /output row 1 after 2/],
  ['an output row twice', { outputRows: Int32Array.of(1, 1) }, /output row 1 after 1/],
];

for (const [name, changes, message] of wrong) {
  test(`refused before it reaches ggml: ${name}`, () => {
    assert.throws(() => checkBatch(batch(changes), limits), { code: 'DEVICE_BATCH_INVALID', message });
  });
}

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DraftRecord, Governor } from './governor.ts';

/** Runs steps on a device where a step of r rows takes `cost(r)`, with drafts of which each holds with the same chance. */
function run(
  governor: Governor,
  sequences: number,
  steps: number,
  cost: (rows: number) => number,
  holds: number,
) {
  const records = Array.from({ length: sequences }, () => governor.record());
  const counts: number[] = [];
  let spent = 0;
  let tokens = 0;
  for (let step = 0; step < steps; step++) {
    const count = governor.draftCount(records, 0);
    counts.push(count);
    for (const record of records) tokens += 1 + verify(governor, record, count, holds);
    const rows = sequences * (1 + count);
    spent += cost(rows);
    governor.noteStep(sequences, rows, cost(rows));
  }
  return { counts, gain: (tokens / spent) * (cost(sequences) / sequences) };
}

let draws = 0;
function verify(governor: Governor, record: DraftRecord, count: number, holds: number): number {
  if (count === 0) {
    governor.notePlain(record);
    return 0;
  }
  let accepted = 0;
  // An even sequence: of any stretch of draws the right share holds.
  while (accepted < count && (draws++ * 0.618033988749895) % 1 < holds) accepted++;
  governor.noteVerified(record, count, accepted);
  return accepted;
}

const roomy = (rows: number) => 1000 + 20 * rows;
const full = (rows: number) => 100 + 500 * rows;

test('good drafts where rows are cheap: long ones, and most of what they can bring', () => {
  const { counts, gain } = run(new Governor(16), 1, 400, roomy, 0.9);
  assert.ok((counts.at(-1) ?? 0) >= 6, `drafts of ${counts.at(-1)}`);
  assert.ok(gain > 3, `gain ${gain}`);
});

test('bad drafts are soon given up, and cost little', () => {
  const { gain } = run(new Governor(8), 1, 2000, roomy, 0.02);
  assert.ok(gain > 0.97, `gain ${gain}`);
});

test('a device without room to spare: good drafts too cost less than 3 %', () => {
  for (const holds of [0.1, 0.5, 0.95]) {
    const { gain } = run(new Governor(8), 16, 3000, full, holds);
    assert.ok(gain > 0.97, `gain ${gain} where ${holds} hold`);
  }
});

test('what pays again is found again', () => {
  const governor = new Governor(8);
  run(governor, 1, 300, roomy, 0.02);
  const { counts } = run(governor, 1, 600, roomy, 0.95);
  assert.ok(counts.slice(-50).every((count) => count >= 4));
});

test('never more than was allowed, and nothing for nobody', () => {
  const { counts } = run(new Governor(2), 1, 200, roomy, 1);
  assert.ok(counts.every((count) => count <= 2));
  assert.equal(new Governor(8).draftCount([], 3), 0);
});

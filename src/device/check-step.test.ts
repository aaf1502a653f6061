import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StepChecker } from './check-step.ts';
import { type KvOperations, kvOperation, noKvOperations, type StepBatch, want } from './step.ts';

const limits = {
  vocabularySize: 100,
  contextLength: 16,
  batchTokensMax: 8,
  blocks: 6,
  blockPositions: 4,
  hostBlocks: 2,
  previousOutputs: 1,
};

interface Part {
  rows: number;
  kvLength: number;
  blocks: number[];
}

const first: Part = { rows: 3, kvLength: 3, blocks: [0] };
const second: Part = { rows: 1, kvLength: 10, blocks: [1, 2, 3] };

interface Changes {
  tokens?: number[];
  positions?: number[];
  parts?: Part[];
  outputRows?: number[];
  wants?: number;
  temperature?: number;
  kv?: KvOperations;
}

function batch(changes: Changes = {}): StepBatch {
  const { tokens = [1, 2, 3, 4], positions = [0, 1, 2, 9], parts = [first, second] } = changes;
  const { outputRows = [2, 3], wants = want.token, temperature = 0, kv = noKvOperations } = changes;
  const starts = [0];
  for (const { blocks } of parts) starts.push(starts.at(-1)! + blocks.length);
  const count = outputRows.length;
  return {
    serial: 1,
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(positions),
    segments: {
      count: parts.length,
      rows: Int32Array.from(parts, ({ rows }) => rows),
      kvLength: Int32Array.from(parts, ({ kvLength }) => kvLength),
      blockStart: Int32Array.from(starts),
      blocks: Int32Array.from(parts.flatMap(({ blocks }) => blocks)),
    },
    outputs: {
      count,
      rows: Int32Array.from(outputRows),
      wants: new Uint8Array(count).fill(wants),
      sampling: {
        temperature: new Float64Array(count).fill(temperature),
        topK: new Int32Array(count),
        topP: new Float64Array(count).fill(1),
        minP: new Float64Array(count),
        seed: new Float64Array(count),
        sequence: new Int32Array(count),
        position: new Int32Array(count),
        state: new Int32Array(count).fill(-1),
        topLogprobs: new Int32Array(count),
        loads: [],
      },
    },
    kv,
  };
}

function operations(kind: number, from: number, to: number, positions = 0): KvOperations {
  return {
    count: 1,
    kinds: Uint8Array.of(kind),
    from: Int32Array.of(from),
    to: Int32Array.of(to),
    positions: Int32Array.of(positions),
  };
}

const check = (changes: Changes) => new StepChecker(limits.blocks).check(batch(changes), limits);

test('a sound batch passes, one without output rows too, and one that only moves blocks', () => {
  check({});
  check({ outputRows: [] });
  check({ tokens: [1, 2, 3, -1] });
  check({ parts: [], tokens: [], positions: [], outputRows: [], kv: operations(kvOperation.release, 5, 0) });
  check({ kv: operations(kvOperation.copy, 1, 2, 4) });
  check({ kv: operations(kvOperation.toHost, 5, 1) });
});

test('blocks may be shared by sequences that do not write to them', () => {
  check({ parts: [{ rows: 3, kvLength: 7, blocks: [1, 0] }, second], positions: [4, 5, 6, 9] });
});

const wrong: [string, Changes, RegExp][] = [
  ['no tokens', { tokens: [], parts: [] }, /a step of 0 tokens/],
  ['too many tokens', { tokens: new Array(9).fill(1) }, /a step of 9 tokens; 1 to 8/],
  [
    'a row that did not come before',
    { tokens: [1, -2, 3, 4] },
    /row 1 takes the token of output row 1; .* had 1/,
  ],
  ['a token beyond the vocabulary', { tokens: [1, 2, 3, 100] }, /token 100 of row 3/],
  ['positions of another length', { positions: [0] }, /1 positions for 4 tokens/],
  ['a position out of order', { positions: [0, 2, 1, 9] }, /row 1 has position 2, not 1/],
  ['rows that no segment covers', { parts: [first] }, /segments of 3 rows for 4 tokens/],
  [
    'a block with two writers',
    { parts: [first, { ...second, blocks: [1, 2, 0] }] },
    /block 0 has two writers/,
  ],
  ['an unknown block', { parts: [first, { ...second, blocks: [1, 2, 6] }] }, /block 6 of 6/],
  ['too few blocks', { parts: [first, { ...second, blocks: [1, 2] }] }, /2 blocks of 4 for 10 positions/],
  ['an empty segment', { parts: [first, { ...second, rows: 0 }] }, /a segment of 0 rows/],
  ['a KV length beyond the context', { parts: [first, { ...second, kvLength: 17 }] }, /KV length of 17/],
  ['a KV length below its rows', { parts: [{ ...first, kvLength: 2 }] }, /KV length of 2 with 3 rows/],
  ['an output row beyond the rows', { outputRows: [4] }, /output row 4/],
  ['output rows out of order', { outputRows: [2, 1] }, /output row 1 after 2/],
  ['an output row twice', { outputRows: [1, 1] }, /output row 1 after 1/],
  ['a row that wants nothing', { wants: 0 }, /wants nothing/],
  ['a negative temperature', { temperature: -1 }, /temperature of -1/],
  ['no temperature', { temperature: Number.NaN }, /temperature of NaN/],
  ['probabilities without a temperature', { wants: want.logits | want.probabilities }, /temperature of 0/],
  ['a copy onto itself', { kv: operations(kvOperation.copy, 1, 1, 2) }, /KV operation 0 of block 1 to 1/],
  ['a copy of more than a block', { kv: operations(kvOperation.copy, 1, 2, 5) }, /5 positions/],
  ['a release of no block', { kv: operations(kvOperation.release, -1, 0) }, /block -1/],
  ['a host block that is not there', { kv: operations(kvOperation.fromHost, 2, 1) }, /block 2 to 1/],
];

for (const [name, changes, message] of wrong) {
  test(`refused before it reaches a device: ${name}`, () => {
    assert.throws(() => check(changes), { code: 'DEVICE_BATCH_INVALID', message });
  });
}

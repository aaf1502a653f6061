import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  noKvOperations,
  type OutputTable,
  type StepBatch,
  type StepResult,
  want,
} from '../../device/step.ts';
import {
  decodeHidden,
  decodeResult,
  decodeStep,
  encodeHidden,
  encodeResult,
  encodeStep,
} from './step-codec.ts';

const load = {
  state: 3,
  repetitionPenalty: 1.1,
  presencePenalty: 0.2,
  frequencyPenalty: -0.5,
  banUntilPosition: 9,
  promptTokens: Int32Array.of(1, 2, 3),
  outputTokens: Int32Array.of(),
  biasTokens: Int32Array.of(7),
  biasValues: Float32Array.of(-100),
  bannedTokens: Int32Array.of(2, 5),
};
const outputs: OutputTable = {
  count: 2,
  rows: Int32Array.of(0, 3),
  wants: Uint8Array.of(want.token | want.logprobs, want.logits | want.probabilities),
  sampling: {
    temperature: Float64Array.of(0, 0.7),
    topK: Int32Array.of(0, 40),
    topP: Float64Array.of(1, 0.9),
    minP: Float64Array.of(0, 0.05),
    seed: Float64Array.of(0, Number.MAX_SAFE_INTEGER),
    sequence: Int32Array.of(0, 1),
    position: Int32Array.of(8, 4),
    state: Int32Array.of(-1, 3),
    topLogprobs: Int32Array.of(5, 0),
    loads: [load],
  },
};
const batch: StepBatch = {
  serial: 12,
  tokens: Int32Array.of(5, -1, 9, 4),
  positions: Int32Array.of(7, 1, 2, 3),
  segments: {
    count: 2,
    rows: Int32Array.of(1, 3),
    kvLength: Int32Array.of(8, 4),
    blockStart: Int32Array.of(0, 2, 3),
    blocks: Int32Array.of(4, 6, 1),
  },
  outputs,
  kv: {
    count: 1,
    kinds: Uint8Array.of(0),
    from: Int32Array.of(4),
    to: Int32Array.of(6),
    positions: Int32Array.of(16),
  },
};

test('a step plan arrives as it was sent, and of longer columns only what counts', () => {
  assert.deepEqual(decodeStep(encodeStep(batch)), batch);
  const adapted = { ...batch, segments: { ...batch.segments, adapter: Int32Array.of(-1, 2) } };
  assert.deepEqual(decodeStep(encodeStep(adapted)), adapted);
  const longer = (column: Int32Array) => Int32Array.of(...column, 99, 99);
  const { segments, kv } = batch;
  const reused: StepBatch = {
    ...batch,
    segments: { ...segments, rows: longer(segments.rows), blocks: longer(segments.blocks) },
    outputs: { ...outputs, rows: longer(outputs.rows), wants: Uint8Array.of(...outputs.wants, 1) },
    kv: { ...kv, from: longer(kv.from) },
  };
  assert.deepEqual(decodeStep(encodeStep(reused)), batch);
  const empty = {
    ...batch,
    tokens: new Int32Array(0),
    positions: new Int32Array(0),
    kv: noKvOperations,
  };
  assert.deepEqual(decodeStep(encodeStep(empty)), empty);
});

test('a result brings the logits of the rows that asked for them, and only those', () => {
  const width = 70;
  const values = Float32Array.from({ length: 2 * width }, (_, i) => i / 7);
  const result: StepResult = {
    computeNs: 1234,
    output: {
      tokens: Int32Array.of(6, -1),
      logits: { values, probabilities: { values, blockSums: Float32Array.of(1, 2) } },
      logprobs: {
        chosen: Float64Array.of(-0.5),
        perRow: 2,
        ids: Int32Array.of(6, 1),
        values: Float32Array.of(-0.5, -3),
      },
    },
  };
  const { output, computeNs } = decodeResult(encodeResult(result, outputs, width));
  assert.equal(computeNs, 1234);
  assert.deepEqual(output.tokens, result.output.tokens);
  assert.deepEqual(output.logprobs, result.output.logprobs);
  assert.deepEqual(output.logits, {
    values: values.slice(width),
    places: Int32Array.of(-1, 0),
    probabilities: { values: values.slice(width), blockSums: Float32Array.of(2) },
  });
});

test('activations come in whole rows, and what is cut or mixed up is refused', () => {
  const hidden = Float32Array.of(1, 2, 3, 4, 5, 6);
  assert.deepEqual(decodeHidden(encodeHidden(hidden), 3), hidden);
  const refused = { code: 'RANK_MESSAGE_INVALID' };
  assert.throws(() => decodeHidden(encodeHidden(hidden), 4), refused);
  assert.throws(() => decodeStep(encodeHidden(hidden)), refused);
  assert.throws(() => decodeResult(encodeStep(batch)), refused);
  assert.throws(() => decodeStep(encodeStep(batch).slice(0, -8)), refused);
});

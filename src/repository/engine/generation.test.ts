import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Tensor, tensorOf } from '../tensor.ts';
import { planGeneration } from './generation.ts';
import { Inputs } from './inputs.ts';
import { encodeWordLists, StopSequences, wordsOfRow } from './word-lists.ts';

const int = (name: string, ...values: number[]) =>
  tensorOf(name, 'INT32', [1, values.length], Int32Array.from(values));
const float = (name: string, ...values: number[]) =>
  tensorOf(name, 'FP32', [1, values.length], Float32Array.from(values));
const facts = { vocabularySize: 100, stopTokenIds: [2, 3] };

function plan(...tensors: Tensor[]) {
  const inputs = [
    int('input_ids', 5, 6, 7, 0),
    int('input_lengths', 3),
    int('request_output_len', 8),
    ...tensors,
  ];
  const request = { id: '', inputs, parameters: {} };
  return planGeneration(request, new Inputs(request), 0, facts);
}

test('greedy and with seed 0 unless top-k or top-p ask for sampling', () => {
  const { request, prompt } = plan(float('temperature', 0.5));
  assert.deepEqual([...prompt], [5, 6, 7]);
  assert.equal(request.sampling.temperature, 0);
  assert.equal(request.sampling.seed, 0);
  assert.equal(plan(int('runtime_top_k', 1), float('temperature', 0.5)).request.sampling.temperature, 0);
  const sampled = plan(int('runtime_top_k', 0), float('runtime_top_p', 0.5), float('temperature', 0.5));
  assert.deepEqual([sampled.request.sampling.temperature, sampled.request.sampling.topP], [0.5, 0.5]);
  assert.equal(plan(int('runtime_top_k', 40), float('runtime_top_p', 0)).request.sampling.topP, 1);
});

test('end ids: the model’s own unless another is named', () => {
  assert.deepEqual(plan().request.stopTokenIds, [2, 3]);
  assert.deepEqual(plan(int('end_id', 3)).request.stopTokenIds, [2, 3]);
  assert.deepEqual(plan(int('end_id', 9)).request.stopTokenIds, [9]);
  assert.deepEqual(plan(int('end_id', -1)).request.stopTokenIds, []);
});

test('words, weights, n-grams and a decaying top-p become bans and biases', () => {
  const { sampling } = plan(
    float('embedding_bias', 0, 2.5, 0),
    encodeWordLists('bad_words_list', [[[7], [9, 8]]]),
    int('no_repeat_ngram_size', 3),
    float('runtime_top_p', 0.5),
    float('runtime_top_p_decay', 0.75),
    float('runtime_top_p_min', 0.125),
    int('runtime_top_p_reset_ids', 4),
  ).request;
  assert.deepEqual([...(sampling.embeddingBias ?? [])], [0, 2.5, 0]);
  assert.deepEqual(sampling.badWords, [[7], [9, 8]]);
  assert.equal(sampling.noRepeatNgramSize, 3);
  assert.deepEqual(sampling.topPDecay, { factor: 0.75, min: 0.125, resetToken: 4 });
  const none = plan(float('embedding_bias', 0, 0), float('runtime_top_p_decay', 1)).request.sampling;
  assert.equal(none.embeddingBias ?? none.topPDecay ?? none.badWords, undefined);
});

test('ids of any size are computed, and echoed as they came', () => {
  const inputs = [int('input_ids', -1, 250), int('input_lengths', 2), int('request_output_len', 1)];
  const request = { id: '', inputs, parameters: {} };
  const { prompt, request: asked } = planGeneration(request, new Inputs(request), 0, facts);
  assert.deepEqual([...prompt], [-1, 250]);
  assert.deepEqual([...asked.promptTokens], [99, 50]);
});

test('lookahead decoding is n-gram lookup: at most N − 1 drafts', () => {
  const sizes = (window: number, ngram: number, verification: number) => [
    int('lookahead_window_size', window),
    int('lookahead_ngram_size', ngram),
    int('lookahead_verification_set_size', verification),
  ];
  const { speculation } = plan(...sizes(3, 8, 3)).request;
  assert.deepEqual(speculation, { draftsMax: 7, lookup: { max: 4, min: 1 } });
  assert.equal(plan(...sizes(1, 64, 1)).request.speculation?.draftsMax, 32);
  assert.equal(plan().request.speculation, undefined);
  assert.throws(() => plan(...sizes(8, 1, 1)), /lookahead_ngram_size 1.*n-grams of 2 at least/);
  assert.throws(() => plan(int('lookahead_ngram_size', 3)), /lookahead_window_size missing/);
});

test('drafts, what they were drawn from, and how much less likely they may be', () => {
  const logits = tensorOf('draft_logits', 'FP32', [1, 2, 100], new Float32Array(200).fill(0.5));
  const { draft } = plan(
    int('draft_input_ids', 7, 8),
    logits,
    float('draft_acceptance_threshold', 0.25),
  ).request;
  assert.deepEqual([...(draft?.tokens ?? [])], [7, 8]);
  assert.equal(draft?.logits?.length, 200);
  assert.equal(draft?.threshold, 0.25);
  const halves = tensorOf('draft_logits', 'FP16', [1, 1, 2], Uint16Array.of(0x3c00, 0xc000));
  assert.deepEqual([...(plan(int('draft_input_ids', 7), halves).request.draft?.logits ?? [])], [1, -2]);
  assert.throws(() => plan(logits), /'draft_logits' needs 'draft_input_ids'/);
  const alone = [int('draft_input_ids', 7), float('draft_acceptance_threshold', 0.5)];
  assert.throws(() => plan(...alone), /'draft_acceptance_threshold' compares 'draft_logits'/);
});

test('lengths that do not fit', () => {
  const refused = (length: number, output: number) => {
    const inputs = [int('input_ids', 1), int('input_lengths', length), int('request_output_len', output)];
    const request = { id: '', inputs, parameters: {} };
    return () => planGeneration(request, new Inputs(request), 0, facts);
  };
  assert.throws(refused(2, 1), /'input_lengths' is 2, but 'input_ids' has 1/);
  assert.throws(refused(0, 1), /it must be 1 to that/);
  assert.throws(refused(1, 0), /'request_output_len' is 0/);
});

test('word lists go there and back', () => {
  const rows = [[[1, 2], [3]], [], [[4]]];
  const tensor = encodeWordLists('w', rows);
  assert.deepEqual(tensor.shape, [3, 2, 3]);
  assert.deepEqual(
    rows.map((_, row) => wordsOfRow(tensor, row)),
    rows,
  );
  const stops = new StopSequences([[1, 2], [3]]);
  assert.deepEqual(
    [1, 1, 2, 5, 3].map((id) => stops.push(id)),
    [false, false, true, false, true],
  );
});

test('draft tokens go with the request', () => {
  assert.equal(plan().request.draft, undefined);
  assert.deepEqual([...(plan(int('draft_input_ids', 8, 99)).request.draft?.tokens ?? [])], [8, 99]);
});

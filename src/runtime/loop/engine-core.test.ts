import assert from 'node:assert/strict';
import { test } from 'node:test';
import { finishAll, open, prompt } from '../../../test/support/audited-run.ts';
import {
  contextLength,
  outcomesAlone,
  requestOf,
  vocabularySize,
} from '../../../test/support/engine-simulator.ts';
import { DeviceError } from '../../device/errors.ts';
import { type GenerationRequest, greedySampling, type SamplingParameters } from '../requests/request.ts';

const withSampling = (sampling: Partial<SamplingParameters>): Partial<GenerationRequest> => ({
  sampling: { ...greedySampling, ...sampling },
});

test('every parameter out of range is refused by name, with its range', async () => {
  const { core } = await open();
  const refused: [Partial<GenerationRequest>, RegExp][] = [
    [{ promptTokens: Int32Array.of() }, /prompt has no tokens/],
    [{ promptTokens: Int32Array.of(1, -1) }, /promptTokens has token -1; ids go from 0 to 996/],
    [{ promptTokens: Int32Array.of(vocabularySize) }, /promptTokens has token 997/],
    [{ maxTokens: 0 }, /maxTokens is 0; it must be an integer from 1/],
    [{ maxTokens: Number.NaN }, /maxTokens is NaN/],
    [{ maxTokens: 1.5 }, /maxTokens is 1.5/],
    [{ minTokens: 6 }, /minTokens is 6; it must be an integer from 0 to 5/],
    [{ minTokens: -1 }, /minTokens is -1/],
    [{ sequences: 0 }, /sequences is 0; it must be an integer from 1 to 128/],
    [{ sequences: 129 }, /sequences is 129/],
    [{ logprobs: 21 }, /logprobs is 21; it must be an integer from 0 to 20/],
    [{ promptLogprobs: -1 }, /promptLogprobs is -1/],
    [{ priority: Number.POSITIVE_INFINITY }, /priority is Infinity/],
    [{ id: -1 }, /id is -1/],
    [{ stopTokenIds: [vocabularySize] }, /stopTokenIds has token 997/],
    [{ stopTokenIds: new Array(1025).fill(0) }, /stopTokenIds has 1025 entries; at most 1024/],
    [{ cacheSalt: 'x'.repeat(1025) }, /cacheSalt has over 1024/],
    [
      { sampling: { ...greedySampling, temperature: -1 } },
      /temperature is -1; it must be a number from 0 to 100/,
    ],
    [{ sampling: { ...greedySampling, temperature: Number.NaN } }, /temperature is NaN/],
    [{ sampling: { ...greedySampling, topK: 1.5 } }, /topK is 1.5; it must be an integer/],
    [{ sampling: { ...greedySampling, topP: 0 } }, /topP is 0; it must be a number above 0 to 1/],
    [{ sampling: { ...greedySampling, minP: 2 } }, /minP is 2/],
    [{ sampling: { ...greedySampling, repetitionPenalty: 0 } }, /repetitionPenalty is 0/],
    [{ sampling: { ...greedySampling, presencePenalty: 3 } }, /presencePenalty is 3; .* from -2 to 2/],
    [{ sampling: { ...greedySampling, frequencyPenalty: Number.NaN } }, /frequencyPenalty is NaN/],
    [{ sampling: { ...greedySampling, seed: 0.5 } }, /seed is 0.5/],
    [{ sampling: { ...greedySampling, logitBias: [[0, 101]] } }, /logitBias is 101/],
    [withSampling({ embeddingBias: new Float32Array(998) }), /embeddingBias has 998 entries; at most 997/],
    [withSampling({ embeddingBias: Float32Array.of(0, Number.NaN) }), /embeddingBias has NaN for token 1/],
    [withSampling({ allowedTokens: Int32Array.of() }), /allowedTokens has no entries/],
    [withSampling({ allowedTokens: new Int32Array(998) }), /allowedTokens has 998 entries; at most 997/],
    [withSampling({ allowedTokens: Int32Array.of(997) }), /allowedTokens has token 997/],
    [withSampling({ badWords: [[1], []] }), /badWords has an empty word/],
    [withSampling({ badWords: [[1, 997]] }), /badWords has token 997/],
    [withSampling({ badWords: new Array(1025).fill([1]) }), /badWords has 1025 entries; at most 1024/],
    [withSampling({ badWords: new Array(1024).fill([...new Array(17).keys()]) }), /17408 tokens together/],
    [withSampling({ noRepeatNgramSize: 65 }), /noRepeatNgramSize is 65; it must be an integer from 0 to 64/],
    [withSampling({ topPDecay: { factor: 0, min: 0.1 } }), /topPDecay.factor is 0/],
    [withSampling({ topPDecay: { factor: 1, min: 2 } }), /topPDecay.min is 2/],
    [withSampling({ topPDecay: { factor: 1, min: 1, resetToken: -1 } }), /topPDecay.resetToken has token -1/],
    [{ sampling: { ...greedySampling, logitBias: [[-1, 1]] } }, /logitBias has token -1/],
  ];
  for (const [overrides, message] of refused) {
    const code = 'REQUEST_INVALID';
    assert.throws(() => core.submit(requestOf({ id: 1, ...overrides })), { code, message });
  }
  core.submit(requestOf({ id: 1 }));
  assert.throws(() => core.submit(requestOf({ id: 1 })), { message: /request id 1 is in use/ });
});

test('a prompt over the context and a request over the KV memory are refused with both numbers', async () => {
  const { core } = await open({ kvBytesMax: 100 * 128 });
  const long = requestOf({ id: 1, promptTokens: prompt(contextLength) });
  assert.throws(() => core.submit(long), { code: 'PROMPT_TOO_LONG', message: /160 tokens.*context is 160/ });
  const large = requestOf({ id: 2, promptTokens: prompt(90), maxTokens: 11 });
  assert.throws(() => core.submit(large), { code: 'REQUEST_TOO_LARGE', message: /need 101 .* has 100/ });
  core.submit(requestOf({ id: 3, promptTokens: prompt(90), maxTokens: 10 }));
});

test('the queue has a limit, and what was refused disturbs nobody', async () => {
  const { core, outcomes } = await open({ queuedRequestsMax: 100, slots: 1 });
  for (let id = 0; id < 100; id++) core.submit(requestOf({ id, maxTokens: 2 }));
  assert.throws(() => core.submit(requestOf({ id: 100 })), {
    code: 'QUEUE_FULL',
    message: /100 requests.*queuedRequestsMax/,
  });
  assert.equal(core.statistics().waitingRequests, 100);
  await finishAll(core);
  for (let id = 0; id < 100; id++) assert.equal(outcomes.of(id, 0).finish, 'length');
});

test('options that contradict each other are refused', async () => {
  const code = 'OPTIONS_INVALID';
  await assert.rejects(open({ slots: 8, batchTokensMax: 4 }), {
    code,
    message: /batchTokensMax is 4; .* at least 8/,
  });
  await assert.rejects(open({ kvBytesMax: Number.NaN }), { code });
  const unknown = {
    message: /unknown capacity policy 'none'; known: guaranteed_no_evict, max_utilization, static_batch/,
  };
  await assert.rejects(open({ capacityPolicy: 'none' }), unknown);
});

test('the context ends a sequence', async () => {
  const { core, outcomes } = await open();
  core.submit(requestOf({ id: 1, promptTokens: prompt(150), maxTokens: 1000 }));
  await finishAll(core);
  assert.equal(outcomes.of(1, 0).tokens.length, 10);
  assert.equal(outcomes.of(1, 0).finish, 'length');
});

test('a stop id ends a sequence and is reported; minTokens puts it off', async () => {
  const deviceOptions = { mode: 'script', script: '5,6,7' };
  const { core, outcomes } = await open({ deviceOptions });
  // Three prompt positions: tokens at positions 3, 4, 5 are 5, 6, 7.
  core.submit(requestOf({ id: 1, stopTokenIds: [6] }));
  core.submit(requestOf({ id: 2, stopTokenIds: [6], minTokens: 2 }));
  await finishAll(core);
  assert.deepEqual(outcomes.of(1, 0), { tokens: [5, 6], shown: [], finish: 'stop' });
  const second = outcomes.of(2, 0);
  assert.notEqual(second.tokens[1], 6);
  assert.equal(second.tokens[0], 5);
  assert.ok(second.tokens.length > 2);
});

test('chunks of a prompt make the same text as the whole, and fill the budget beside generation', async () => {
  const request = requestOf({ id: 1, promptTokens: prompt(140) });
  const [alone] = await outcomesAlone(request);
  const { core, model, outcomes } = await open({ batchTokensMax: 16, inFlightStepsMax: 1 });
  core.submit(requestOf({ id: 2, promptTokens: prompt(4, 3), maxTokens: 12 }));
  await core.step();
  core.submit(request);
  await finishAll(core);
  assert.deepEqual(outcomes.of(1, 0), alone);
  const second = model.batches[1]!;
  assert.deepEqual(
    second.segments.map(({ rows }) => rows),
    [1, 15],
  );
  assert.equal(second.outputRows.length, 1, 'a chunk that is not the last has no output row');
});

test('a long prompt is not starved by a stream of short ones, nor a large request by small ones', async () => {
  for (const capacityPolicy of ['guaranteed_no_evict', 'max_utilization', 'static_batch']) {
    const { core, outcomes } = await open({
      batchTokensMax: 8,
      slots: 4,
      kvBytesMax: 200 * 128,
      capacityPolicy,
    });
    let id = 1;
    for (; id < 6; id++) core.submit(requestOf({ id, promptTokens: prompt(5, id), maxTokens: 6 }));
    core.submit(requestOf({ id: 0, promptTokens: prompt(150), maxTokens: 4 }));
    let steps = 0;
    for (; outcomes.of(0, 0).finish === undefined; steps++) {
      core.submit(requestOf({ id: id++, promptTokens: prompt(5, id), maxTokens: 6 }));
      await core.step();
      assert.ok(steps < 100, `${capacityPolicy} serves the long prompt`);
    }
  }
});

test('priority goes before arrival', async () => {
  const { core, outcomes } = await open({ slots: 1 });
  for (const [id, priority] of [0, 0, 2, 1].entries()) core.submit(requestOf({ id, priority }));
  await finishAll(core);
  assert.deepEqual([...outcomes.starts.keys()], [2, 3, 0, 1]);
});

test('static_batch starts nothing until the whole batch has ended', async () => {
  const { core, model } = await open({ slots: 2, capacityPolicy: 'static_batch' });
  for (const [id, maxTokens] of [2, 6, 2, 2].entries()) core.submit(requestOf({ id, maxTokens }));
  await finishAll(core);
  const sizes = model.batches.map(({ segments }) => segments.length);
  assert.deepEqual(sizes, [2, 2, 1, 1, 1, 1, 2, 2]);
});

test('max_utilization admits more than fit at their worst, pauses, and still answers as if alone', async () => {
  const options = { slots: 4, kvBytesMax: 260 * 128, capacityPolicy: 'max_utilization', inFlightStepsMax: 1 };
  const { core, outcomes } = await open(options);
  const requests = [0, 1, 2, 3].map((id) => requestOf({ id, promptTokens: prompt(10, id), maxTokens: 120 }));
  for (const request of requests) core.submit(request);
  await core.step();
  assert.equal(core.statistics().runningSequences, 4, 'guaranteed_no_evict would admit two');
  await finishAll(core);
  for (const request of requests) {
    assert.deepEqual([outcomes.of(request.id, 0)], await outcomesAlone(request));
  }
});

test('sequences of one request compute the prompt once and fork', async () => {
  const { core, model, outcomes } = await open({ slots: 3, prefixReuse: false });
  const sampling = { ...greedySampling, temperature: 1, seed: 3 };
  const request = requestOf({ id: 1, promptTokens: prompt(50), sequences: 3, sampling });
  core.submit(request);
  await finishAll(core);
  const rows = model.batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  // The prompt once, its last token again for two forks, and four further tokens each.
  assert.equal(rows, 50 + 2 + 3 * 4);
  assert.equal(model.copies, 2);
  const alone = await outcomesAlone(request);
  assert.deepEqual(
    [0, 1, 2].map((sequence) => outcomes.of(1, sequence)),
    alone,
  );
  assert.equal(
    new Set(alone.map(({ tokens }) => tokens.join())).size,
    3,
    'each sequence has draws of its own',
  );
});

test('cancelling works queued, in prefill and in generation, and no later batch holds the request', async () => {
  for (const steps of [0, 1, 4]) {
    const { core, model, outcomes } = await open({ batchTokensMax: 16 });
    core.submit(requestOf({ id: 1, promptTokens: prompt(40), maxTokens: 50 }));
    for (let i = 0; i < steps; i++) await core.step();
    const batches = model.batches.length;
    core.cancel(1);
    await finishAll(core);
    assert.equal(model.batches.length, batches, `after ${steps} steps`);
    assert.equal(outcomes.of(1, 0).finish, 'cancelled');
    assert.equal(core.statistics().kvBytesReserved, 0);
    assert.equal(core.statistics().waitingRequests, 0);
    core.cancel(1);
    core.cancel(99);
    assert.ok(core.isEmpty);
  }
});

test('cancelling the sequence that computes the prompt lets another one do it', async () => {
  const { core, outcomes } = await open({ batchTokensMax: 16 });
  core.submit(requestOf({ id: 1, promptTokens: prompt(40), sequences: 3 }));
  await core.step();
  core.cancel(1, 0);
  await finishAll(core);
  assert.deepEqual(
    [0, 1, 2].map((sequence) => outcomes.of(1, sequence).finish),
    ['cancelled', 'length', 'length'],
  );
});

test('a cancel during an asynchronous step takes effect with its end, without another token', async () => {
  const { core, model, outcomes } = await open();
  model.isDeferred = true;
  core.submit(requestOf({ id: 1 }));
  await core.step();
  const step = core.step();
  core.cancel(1);
  await step;
  assert.deepEqual(outcomes.of(1, 0), {
    tokens: outcomes.of(1, 0).tokens.slice(0, 1),
    shown: [],
    finish: 'cancelled',
  });
  await finishAll(core);
  assert.ok(core.isEmpty);
});

const outOfMemory = new DeviceError('DEVICE_OUT_OF_MEMORY', 'no memory for the step; lower batchTokensMax');

test('a step that the device refuses is cut down until one sequence is to blame; its neighbours go on', async () => {
  const { core, model, outcomes, events } = await open({ slots: 4 });
  const requests = [1, 2, 3].map((id) => requestOf({ id, promptTokens: prompt(5, id), maxTokens: 9 }));
  for (const request of requests) core.submit(request);
  await core.step();
  const bad = requestOf({ id: 4, promptTokens: prompt(40) });
  core.submit(bad);
  model.failure = ({ tokens }) => (tokens.length >= 30 ? outOfMemory : undefined);
  await finishAll(core);
  assert.equal(outcomes.of(4, 0).finish, 'error');
  const { error } = events.find((event) => event.finish === 'error')!;
  assert.deepEqual([error?.code, error?.kind], ['DEVICE_OUT_OF_MEMORY', 'exhausted']);
  for (const request of requests) {
    assert.deepEqual([outcomes.of(request.id, 0)], await outcomesAlone(request));
  }
});

test('a step that is too large only as a whole runs in parts, and nobody fails', async () => {
  for (const inFlightStepsMax of [1, 2]) {
    const { core, model, outcomes } = await open({ slots: 4, inFlightStepsMax });
    model.failure = ({ tokens }) => (tokens.length > 12 ? outOfMemory : undefined);
    const sampling = { ...greedySampling, temperature: 1, seed: 1, presencePenalty: 1 };
    const requests = [1, 2, 3, 4].map((id) =>
      requestOf({ id, promptTokens: prompt(10, id), maxTokens: 9, sampling }),
    );
    for (const request of requests) core.submit(request);
    await finishAll(core);
    for (const request of requests) {
      assert.deepEqual([outcomes.of(request.id, 0)], await outcomesAlone(request));
    }
  }
});

test('a lost device fails everything, says so, and takes no more', async () => {
  const fatal: unknown[] = [];
  const { core, model, outcomes } = await open({ slots: 1, onFatal: (error) => fatal.push(error) });
  core.submit(requestOf({ id: 1 }));
  core.submit(requestOf({ id: 2, sequences: 2 }));
  model.failure = () => new DeviceError('DEVICE_FAILED', 'the GPU fell off the bus');
  await core.step();
  assert.equal(fatal.length, 1);
  assert.deepEqual(
    [outcomes.of(1, 0), outcomes.of(2, 0), outcomes.of(2, 1)].map(({ finish }) => finish),
    ['error', 'error', 'error'],
  );
  assert.ok(core.isEmpty);
  assert.throws(() => core.submit(requestOf({ id: 3 })), {
    code: 'ENGINE_FAILED',
    message: /fell off the bus/,
  });
});

test('three refused steps in a row count as a lost device; without a handler step() throws', async () => {
  const { core, model } = await open({ slots: 1 });
  const refuse = async (id: number) => {
    model.failure = ({ tokens }) => (tokens.length > 0 ? outOfMemory : undefined);
    core.submit(requestOf({ id }));
    await core.step();
  };
  await refuse(1);
  await refuse(2);
  await assert.rejects(refuse(3), { code: 'DEVICE_OUT_OF_MEMORY' });
});

test('a row without a possible token fails its request, not its neighbours', async () => {
  const { core, outcomes, events } = await open({ deviceOptions: { candidates: '4' } });
  // Ids that end the text are banned, and those are all that there are.
  const stopTokenIds = Array.from({ length: vocabularySize }, (_, id) => id);
  core.submit(requestOf({ id: 1, stopTokenIds, minTokens: 3 }));
  core.submit(requestOf({ id: 2 }));
  await finishAll(core).catch(() => {});
  assert.equal(outcomes.of(1, 0).finish, 'error');
  assert.equal(events.find((event) => event.finish === 'error')?.error?.code, 'LOGITS_INVALID');
  assert.equal(outcomes.of(2, 0).finish, 'length');
});

test('log-probabilities of output and prompt are reported', async () => {
  const { core, events } = await open({ batchTokensMax: 64 });
  core.submit(requestOf({ id: 1, promptTokens: prompt(40), logprobs: 2, promptLogprobs: 1, maxTokens: 2 }));
  await finishAll(core);
  const start = events[0]?.start;
  assert.equal(start?.promptLogprobs?.length, 40);
  assert.equal(start?.promptLogprobs?.[0], undefined);
  assert.ok(start?.promptLogprobs?.slice(1).every((entry) => entry && entry.top.tokens.length === 1));
  for (const event of events) {
    const [entry] = event.logprobs!;
    assert.equal(entry!.top.tokens[0], event.tokens[0], 'greedy takes the likeliest');
    assert.ok(entry!.logprob < 0 && entry!.logprob === Math.max(...[entry!.logprob]));
    assert.equal(entry!.top.logprobs.length, 2);
  }
});

test('a request without a seed gets one, which reproduces it', async () => {
  const { core, outcomes } = await open({ randomSeed: () => 4242 });
  const sampling = { ...greedySampling, temperature: 1 };
  core.submit(requestOf({ id: 1, sampling }));
  await finishAll(core);
  assert.equal(outcomes.starts.get(1)?.seed, 4242);
  core.submit(requestOf({ id: 2, sampling: { ...sampling, seed: 4242 } }));
  await finishAll(core);
  assert.deepEqual(outcomes.of(1, 0), outcomes.of(2, 0));
});

test('waiting and prefill times are measured by the given clock', async () => {
  const { core, clock, outcomes } = await open({ batchTokensMax: 8, slots: 1 });
  core.submit(requestOf({ id: 1, promptTokens: prompt(20) }));
  clock.advanceMs(30);
  while (!outcomes.starts.has(1)) {
    await core.step();
    clock.advanceMs(5);
  }
  const start = outcomes.starts.get(1);
  assert.deepEqual([start?.queuedMs, start?.prefillMs], [30, 10]);
});

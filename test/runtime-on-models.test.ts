import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { SeededRandom } from '../src/base/random.ts';
import { openEngine } from '../src/builder/open-engine.ts';
import type { DeviceModel } from '../src/device/device.ts';
import { devices } from '../src/device/registry.ts';
import { EngineCore, type EngineCoreOptions } from '../src/runtime/loop/engine-core.ts';
import {
  type GenerationRequest,
  greedySampling,
  type SamplingParameters,
} from '../src/runtime/requests/request.ts';
import { loadModel } from './device/steps.ts';
import { assertBansKept, Outcomes, requestOf } from './support/engine-simulator.ts';
import { sharedPath, skipWithout } from './support/shared.ts';

const skip = skipWithout('models/stories260K');
const ggufPath = sharedPath('models/stories260K/stories260K-f32.gguf');
const contextLength = 96;

interface Golden {
  prompts: { prompt: string; prompt_ids: number[]; greedy_ids: number[] }[];
}

/** Runs requests through an engine on a real model; all are submitted before the first step. */
async function serve(
  deviceName: string,
  requests: readonly GenerationRequest[],
  options: Partial<EngineCoreOptions> & { slots?: number; blockPositions?: number } = {},
): Promise<Outcomes> {
  const { slots = 8, blockPositions, ...rest } = options;
  const batchTokensMax = options.batchTokensMax ?? 64;
  const device = await (await devices.load(deviceName)).openDevice({});
  const { source } = await openEngine(ggufPath);
  const limits = { slots, blockPositions, batchTokensMax, kvDtype: 'f32' as const, threads: 1 };
  const model: DeviceModel = await loadModel(device, { ...source, contextLength }, limits);
  const outcomes = new Outcomes();
  const { vocabularySize } = source;
  const kvBytesMax = slots * contextLength * model.kv.bytesPerPosition;
  const core = new EngineCore(
    model,
    {
      name: 'stories',
      device: deviceName,
      vocabularySize,
      contextLength,
      sequencesMax: slots,
      batchTokensMax,
      kvBytesMax,
      ...rest,
    },
    (events) => outcomes.take(events),
  );
  for (const request of requests) core.submit(request);
  while (core.hasRunnable) await core.step();
  model.close();
  device.close();
  return outcomes;
}

function sampledRequests(seed: number, count: number): GenerationRequest[] {
  const random = new SeededRandom(seed);
  const shared = Array.from({ length: 24 }, () => 3 + random.integer(500));
  return Array.from({ length: count }, (_, id) =>
    requestOf({
      id,
      promptTokens: Int32Array.from([
        1,
        ...(id % 2 === 0 ? shared : []),
        ...Array.from({ length: 1 + random.integer(12) }, () => 3 + random.integer(500)),
      ]),
      maxTokens: 8,
      sequences: id % 3 === 0 ? 2 : 1,
      sampling: {
        ...greedySampling,
        temperature: id % 4 === 0 ? 0 : 0.9,
        topP: 0.95,
        repetitionPenalty: id % 5 === 0 ? 1.2 : 1,
        seed: id,
      },
    }),
  );
}

test('reference device: request and seed make the same tokens alone and in a full batch, chunked and with reuse', {
  skip,
}, async () => {
  const seed = 17;
  const requests = sampledRequests(seed, 9);
  const together = await serve('reference', requests, { slots: 6, batchTokensMax: 20 });
  for (const request of requests) {
    const alone = await serve('reference', [request], {
      slots: 1,
      batchTokensMax: contextLength,
      prefixReuse: false,
    });
    for (let sequence = 0; sequence < request.sequences; sequence++) {
      const label = `seed ${seed}, request ${request.id}, sequence ${sequence}`;
      assert.deepEqual(together.of(request.id, sequence), alone.of(request.id, sequence), label);
    }
  }
  const cached = [...together.starts.values()].reduce((sum, start) => sum + (start?.cachedTokens ?? 0), 0);
  assert.ok(cached > 0, 'some prefix was reused');
});

test('reference device: blocks of any size, slots, one step or two in flight: the same texts', {
  skip,
}, async () => {
  const requests = sampledRequests(23, 7);
  const expected = await serve('reference', requests, { slots: 7, inFlightStepsMax: 1, prefixReuse: false });
  for (const options of [
    { slots: 7, blockPositions: 16, inFlightStepsMax: 1 },
    { slots: 7, blockPositions: 7, inFlightStepsMax: 2, batchTokensMax: 20 },
    { slots: 3, inFlightStepsMax: 2, batchTokensMax: 12 },
    { slots: 4, blockPositions: 16, inFlightStepsMax: 2, capacityPolicy: 'max_utilization' },
  ]) {
    const outcomes = await serve('reference', requests, options);
    for (const request of requests) {
      for (let sequence = 0; sequence < request.sequences; sequence++) {
        const label = `${JSON.stringify(options)}: request ${request.id}, sequence ${sequence}`;
        assert.deepEqual(outcomes.of(request.id, sequence), expected.of(request.id, sequence), label);
      }
    }
  }
});

for (const deviceName of ['reference', 'ggml']) {
  test(`${deviceName}: greedy text of stories260K equals its golden, all prompts in one batch`, {
    skip,
  }, async () => {
    const golden = JSON.parse(readFileSync(sharedPath('models/stories260K/golden.json'), 'utf8')) as Golden;
    const tokensMax = deviceName === 'reference' ? 20 : 60;
    const requests = golden.prompts.map(({ prompt_ids, greedy_ids }, id) =>
      requestOf({
        id,
        promptTokens: Int32Array.from(prompt_ids),
        maxTokens: Math.min(tokensMax, greedy_ids.length, contextLength - prompt_ids.length),
        stopTokenIds: [1, 2],
      }),
    );
    const outcomes = await serve(deviceName, requests, { slots: requests.length });
    for (const [id, { prompt, greedy_ids }] of golden.prompts.entries()) {
      const { tokens } = outcomes.of(id, 0);
      assert.deepEqual(tokens, greedy_ids.slice(0, tokens.length), prompt);
      assert.ok(tokens.length > 5);
    }
  });
}

test('bans are kept on a real model, the same on ggml as on reference', { skip }, async () => {
  const golden = JSON.parse(readFileSync(sharedPath('models/stories260K/golden.json'), 'utf8')) as Golden;
  const requests = golden.prompts.map(({ prompt_ids, greedy_ids }, id) => {
    const bans: Partial<SamplingParameters>[] = [
      { badWords: [greedy_ids.slice(2, 4), greedy_ids.slice(0, 1)] },
      { noRepeatNgramSize: 2 },
      { allowedTokens: Int32Array.from({ length: 200 }, (_, index) => 3 + index * 2) },
      {
        embeddingBias: Float32Array.from({ length: 512 }, (_, token) =>
          greedy_ids.slice(0, 3).includes(token) ? Number.NEGATIVE_INFINITY : 0,
        ),
      },
    ];
    return requestOf({
      id,
      promptTokens: Int32Array.from(prompt_ids),
      maxTokens: Math.min(16, contextLength - prompt_ids.length),
      sampling: { ...greedySampling, ...bans[id % bans.length] },
    });
  });
  const options = { slots: requests.length };
  const [onReference, onGgml] = [
    await serve('reference', requests, options),
    await serve('ggml', requests, options),
  ];
  for (const [id, request] of requests.entries()) {
    const { tokens } = onReference.of(id, 0);
    assert.deepEqual(onGgml.of(id, 0).tokens, tokens, `request ${id}`);
    assertBansKept(request, tokens);
    assert.ok(tokens.length > 5);
    const plain = golden.prompts[id]?.greedy_ids.slice(0, tokens.length);
    if (!request.sampling.noRepeatNgramSize) assert.notDeepEqual(tokens, plain);
  }
});

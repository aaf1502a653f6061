import assert from 'node:assert/strict';
import { test } from 'node:test';
import { surfacing } from '../../test/support/surfacing.ts';
import { nullModelSource } from '../device/null/index.ts';
import { LocalEngine } from './local-engine.ts';
import { loadModel } from './process/load-model.ts';
import type { SequenceEvent } from './requests/events.ts';
import { type GenerationRequest, greedySampling } from './requests/request.ts';

const size = { vocabularySize: 512, contextLength: 256 };

async function openEngine(deviceOptions: Record<string, string> = {}): Promise<LocalEngine> {
  const { model, options } = await loadModel('test', nullModelSource(size), {
    device: 'null',
    deviceOptions,
    slots: 4,
    batchTokensMax: 64,
    kvDtype: 'f16',
    threads: 1,
    prefixReuse: true,
  });
  return new LocalEngine(model, options);
}

function request(overrides: Partial<GenerationRequest> = {}): Omit<GenerationRequest, 'id'> {
  return {
    promptTokens: Int32Array.of(1, 2, 3),
    sampling: greedySampling,
    maxTokens: 5,
    minTokens: 0,
    stopTokenIds: [],
    sequences: 1,
    priority: 0,
    ...overrides,
  };
}

function collect(engine: LocalEngine, one: Omit<GenerationRequest, 'id'>): Promise<SequenceEvent[]> {
  const events: SequenceEvent[] = [];
  let unfinished = one.sequences;
  return new Promise((resolve) => {
    engine.submit(one, (event) => {
      events.push(event);
      if (event.finish && --unfinished === 0) resolve(events);
    });
  });
}

test('a request gets its tokens, a start with the first, and one finish', async () => {
  const engine = await openEngine();
  const events = await collect(engine, request());
  assert.equal(events.flatMap((event) => event.tokens).length, 5);
  assert.ok(events[0]?.start);
  assert.deepEqual(
    events.map((event) => event.finish),
    [undefined, undefined, undefined, undefined, 'length'],
  );
  await engine.close();
  assert.throws(() => engine.submit(request(), () => {}), { code: 'SHUTTING_DOWN' });
});

test('an asynchronous device serves the same tokens as one that answers at once', async () => {
  const immediate = await openEngine();
  const delayed = await openEngine({ 'step-ms': '1' });
  const [a, b] = await Promise.all([collect(immediate, request()), collect(delayed, request())]);
  assert.deepEqual(
    a.map((event) => event.tokens),
    b.map((event) => event.tokens),
  );
  await Promise.all([immediate.close(), delayed.close()]);
});

test('several sequences of one request differ by seed and all finish', async () => {
  const engine = await openEngine();
  const sampling = { ...greedySampling, temperature: 1, seed: 7 };
  const events = await collect(engine, request({ sequences: 6, sampling }));
  const texts = Array.from({ length: 6 }, (_, sequence) =>
    events
      .filter((event) => event.sequence === sequence)
      .flatMap((event) => event.tokens)
      .join(),
  );
  assert.ok(texts.every((text) => text.split(',').length === 5));
  assert.ok(new Set(texts).size > 1);
  await engine.close();
});

test('closing cancels what the drain time did not suffice for', async () => {
  const engine = await openEngine({ 'step-ms': '2' });
  const events: SequenceEvent[] = [];
  engine.submit(request({ maxTokens: 200 }), (event) => events.push(event));
  await engine.close({ drainTimeoutMs: 10 });
  assert.equal(events.at(-1)?.finish, 'cancelled');
  assert.equal(engine.statistics().kvBytesReserved, 0);
});

test("a listener's own bug costs its own request, surfaces once, and the others go on", async () => {
  const engine = await openEngine();
  const surfaced = await surfacing(async () => {
    engine.submit(request({ maxTokens: 100 }), () => {
      throw new TypeError('a bug of the listener');
    });
    assert.equal((await collect(engine, request({ maxTokens: 20 }))).at(-1)?.finish, 'length');
    assert.equal(engine.statistics().runningSequences, 0);
  });
  assert.deepEqual(surfaced.map(String), ['TypeError: a bug of the listener']);
  await engine.close();
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chats, nullPool, runWorkload, sharedPrefixes } from '../../../test/support/routing-workload.ts';
import { greedySampling } from '../requests/request.ts';
import { EngineLoad, outputTokensCounted } from './engine-load.ts';
import type { RoutingName } from './router.ts';

/** Prompt tokens that a pool of four engines computes. */
async function computed(routing: RoutingName, workload: Parameters<typeof runWorkload>[1]): Promise<number> {
  const pool = await nullPool({ engines: 4, routing, kvPositions: 16_384 });
  const result = await runWorkload(pool, workload, { concurrency: 16, maxTokens: 8 });
  await pool.pool.close();
  assert.equal(
    result.promptTokens,
    workload.reduce((sum, { promptTokens }) => sum + promptTokens.length, 0),
  );
  return result.computedTokens;
}

test('prompts that share prefixes go where they are known: at most 0.4 of what round-robin computes', async () => {
  // Twice as many system prompts as one engine holds, half as many as four do.
  const workload = sharedPrefixes({ groups: 32, perGroup: 8, prefixTokens: 1000, ownTokens: 20 });
  const [prefix, roundRobin] = [await computed('prefix', workload), await computed('round-robin', workload)];
  assert.ok(prefix <= 0.4 * roundRobin, `${prefix} against ${roundRobin}`);
});

test('a chat goes on where it was', async () => {
  const workload = chats({ chats: 16, turns: 6, turnTokens: 150 });
  const [prefix, roundRobin] = [await computed('prefix', workload), await computed('round-robin', workload)];
  assert.ok(prefix <= 0.6 * roundRobin, `${prefix} against ${roundRobin}`);
});

for (const routing of ['prefix', 'least-loaded', 'round-robin'] as const) {
  test(`${routing}: prompts that nobody knows are spread evenly`, async () => {
    const pool = await nullPool({ engines: 4, routing, kvPositions: 16_384 });
    const workload = sharedPrefixes({ groups: 64, perGroup: 1, prefixTokens: 100, ownTokens: 10 });
    const { imbalance } = await runWorkload(pool, workload, { concurrency: 64, maxTokens: 8 });
    assert.equal(imbalance, 1);
    await pool.pool.close();
  });
}

test('statistics: counters and gauges are added up, the time is the latest', async () => {
  const { pool, engines } = await nullPool({ engines: 3, routing: 'round-robin', kvPositions: 16_384 });
  const workload = sharedPrefixes({ groups: 1, perGroup: 6, prefixTokens: 100, ownTokens: 10 });
  await runWorkload({ pool, engines }, workload, { concurrency: 1, maxTokens: 4 });
  const own = engines.map((engine) => engine.statistics());
  const { atNs, generatedTokens, kvBytesMax, promptTokens } = pool.statistics();
  assert.ok(atNs >= Math.max(...own.map((each) => each.atNs)));
  assert.ok(atNs < own.reduce((sum, each) => sum + each.atNs, 0));
  assert.equal(generatedTokens, 6 * 4);
  assert.equal(promptTokens, 6 * 110);
  assert.equal(
    kvBytesMax,
    own.reduce((sum, each) => sum + each.kvBytesMax, 0),
  );
  await pool.close();
});

test('load: what is done is taken off token by token, what was not done at the end', () => {
  const engine = new EngineLoad();
  const request = {
    promptTokens: new Int32Array(100),
    sequences: 2,
    maxTokens: 10_000,
    sampling: greedySampling,
  };
  const load = engine.add(request, 60);
  assert.equal(engine.tokensOutstanding, 40 + 2 * outputTokensCounted);
  const event = { requestId: 1, sequence: 0, tokens: [7] };
  assert.equal(
    load.take({ ...event, start: { seed: 1, cachedTokens: 60, queuedMs: 0, prefillMs: 0 } }),
    false,
  );
  assert.equal(engine.tokensOutstanding, 2 * outputTokensCounted - 1);
  for (let step = 0; step < 2 * outputTokensCounted; step++) load.take(event);
  assert.equal(engine.tokensOutstanding, 0);
  assert.equal(load.take({ ...event, finish: 'stop' }), false);
  assert.equal(load.take({ ...event, sequence: 1, finish: 'cancelled' }), true);
  assert.equal(engine.tokensOutstanding, 0);
  const never = engine.add(request, 0);
  assert.equal(never.take({ ...event, tokens: [], finish: 'cancelled' }), false);
  assert.equal(never.take({ ...event, tokens: [], sequence: 1, finish: 'cancelled' }), true);
  assert.equal(engine.tokensOutstanding, 0);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AggregatorRegistry } from 'prom-client';
import { testEngine } from '../../test/openai/test-server.ts';
import { Generation, type GenerationInput, type GenerationUsage } from '../generation/generation.ts';
import { EnginePool } from '../runtime/routing/pool.ts';
import { ServerMetrics } from './metrics.ts';
import type { ServedModel } from './served-model.ts';

const input: GenerationInput = {
  promptTokens: Int32Array.of(1, 2, 3),
  sampling: {
    temperature: 0,
    topK: 0,
    topP: 1,
    minP: 0,
    repetitionPenalty: 1,
    presencePenalty: 0,
    frequencyPenalty: 0,
  },
  maxTokens: 5,
  minTokens: 0,
  stopTokenIds: [],
  ignoreEos: false,
  stopStrings: [],
  includeStopString: false,
  skipSpecialTokens: true,
  sequences: 2,
  priority: 0,
};

function run(model: ServedModel, metrics: ServerMetrics): Promise<GenerationUsage> {
  return new Promise((resolve, reject) => {
    const listener = { delta: () => {}, end: resolve, fail: reject };
    new Generation(model, input, listener, { observer: metrics.observer(model.name) });
  });
}

function seriesValue(text: string, series: string): number {
  const line = text.split('\n').find((each) => each.startsWith(`${series} `));
  return Number(line?.split(' ')[1]);
}

test('two front ends of one engine: their own counts are added up, the engine counts once', async () => {
  const { engine, model } = await testEngine({ says: 'abc' });
  const frontEnds = [0, 1].map(() => new ServerMetrics({ models: [model], processMetrics: false }));
  for (const metrics of frontEnds) {
    const usage = await run(model, metrics);
    assert.equal(usage.completionTokens, 10);
  }
  const reports = await Promise.all(frontEnds.map(({ registry }) => registry.getMetricsAsJSON()));
  const text = await AggregatorRegistry.aggregate(reports).metrics();
  const value = (series: string) => seriesValue(text, series);
  assert.equal(value('vllm:generation_tokens_total{model_name="test"}'), 20);
  assert.equal(value('vllm:request_success_total{model_name="test",finished_reason="length"}'), 2);
  assert.equal(value('vllm:time_to_first_token_seconds_count{model_name="test"}'), 2);
  assert.equal(value('vllm:inter_token_latency_seconds_count{model_name="test"}'), 16);
  assert.equal(value('vllm:request_params_n_sum{model_name="test"}'), 4);
  await engine.close();
});

test('counters over several engines do not fall when one of them restarts; gauges may', async () => {
  const first = await testEngine({ says: 'abc' });
  const second = await testEngine({ says: 'abc' });
  const afterRestart = await testEngine({ says: 'abc' });
  // A pool forwards to its members; a supervised engine that restarts keeps its client and begins its counters at 0.
  let current = second.engine;
  const restarting = new Proxy(second.engine, {
    get: (_, key) => {
      const value: unknown = Reflect.get(current, key, current);
      return typeof value === 'function' ? value.bind(current) : value;
    },
  });
  const model = { ...first.model, client: new EnginePool([first.engine, restarting]) };
  const metrics = new ServerMetrics({ models: [model], processMetrics: false });
  const tokens = async () =>
    seriesValue((await metrics.exposition()).text, 'vllm:generation_tokens_total{model_name="test"}');
  await Promise.all([run(model, metrics), run(model, metrics)]);
  assert.equal(await tokens(), 20);
  current = afterRestart.engine;
  assert.equal(model.client.statistics().generatedTokens, 10, 'one engine lost its past');
  assert.equal(await tokens(), 20);
  assert.equal(await tokens(), 20, 'another scrape changes nothing');
  await Promise.all([run(model, metrics), run(model, metrics)]);
  assert.equal(await tokens(), 40);
  const { text } = await metrics.exposition();
  assert.equal(seriesValue(text, 'vllm:num_requests_running{model_name="test"}'), 0);
  await Promise.all([model.client.close(), second.engine.close()]);
});

test('an idle event loop has next to no lag: the sampling interval is not in it', async () => {
  const metrics = new ServerMetrics({ models: [] });
  const first = await lags(metrics);
  assert.ok(Math.max(...first.values()) < 1, 'without samples too');
  await sleep(1_000);
  const { text } = await metrics.exposition();
  const mean = Number(/^nodejs_eventloop_lag_mean_seconds (.+)$/m.exec(text)?.[1]);
  const least = Number(/^nodejs_eventloop_lag_min_seconds (.+)$/m.exec(text)?.[1]);
  // A busy machine delays timers; the interval alone would make these 0.25.
  assert.ok(least < 0.2, `least ${least}`);
  assert.ok(mean >= least);
});

async function lags(metrics: ServerMetrics): Promise<Map<string, number>> {
  const { text } = await metrics.exposition();
  const found = text.matchAll(/^(nodejs_eventloop_lag_\w+_seconds) (.+)$/gm);
  return new Map([...found].map(([, name, value]) => [name as string, Number(value)]));
}

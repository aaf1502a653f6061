import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { addTritonMetrics } from '../../src/protocol/triton/metrics.ts';
import type { ModelRepository } from '../../src/repository/model.ts';
import { openRepository } from '../../src/repository/repository.ts';
import { tensorOf } from '../../src/repository/tensor.ts';
import { greedySampling } from '../../src/runtime/requests/request.ts';
import { testEngine } from '../openai/test-server.ts';
import { writeTestModels } from './models.ts';

const engines = { acquire: () => Promise.reject(new Error('these models need no engine')) };

test('nv_inference_* count what the models did', async (context) => {
  const folder = writeTestModels();
  const repository = await openRepository({ folders: [folder], engines });
  context.after(async () => {
    await repository.close(0);
    rmSync(folder, { recursive: true });
  });
  const registry = new Registry();
  addTritonMetrics(registry, repository);
  const model = repository.model('single');
  const inputs = [tensorOf('IN', 'INT32', [2], Int32Array.of(1, 2))];
  for (let i = 0; i < 3; i++) {
    await new Promise<void>((resolve) =>
      model.infer({ id: '', inputs, parameters: {} }, { respond: () => resolve() }),
    );
  }
  assert.throws(() => model.infer({ id: '', inputs: [], parameters: {} }, { respond: () => {} }));
  const text = await registry.metrics();
  assert.match(text, /^nv_inference_request_success\{model="single",version="1"\} 3$/m);
  assert.match(text, /^nv_inference_count\{model="single",version="1"\} 3$/m);
  assert.match(text, /^nv_inference_request_success\{model="text",version="1"\} 0$/m);
  assert.match(text, /^nv_inference_pending_request_count\{model="single",version="1"\} 0$/m);
  for (const reason of ['REJECTED', 'CANCELED', 'BACKEND', 'OTHER']) {
    assert.match(
      text,
      new RegExp(
        `^nv_inference_request_failure\\{model="single",reason="${reason}",version="1"\\} \\d+$`,
        'm',
      ),
    );
  }
  for (const family of ['request', 'queue', 'compute_input', 'compute_infer', 'compute_output']) {
    assert.match(text, new RegExp(`^# TYPE nv_inference_${family}_duration_us counter$`, 'm'));
  }
  assert.match(text, /^nv_cpu_memory_total_bytes \d{6,}$/m);
  // A second scrape counts nothing twice.
  assert.match(await registry.metrics(), /^nv_inference_count\{model="single",version="1"\} 3$/m);
});

test('nv_trt_llm_* show the engine behind a model, live', async (context) => {
  const { engine } = await testEngine({ slots: 4, contextLength: 128, stepMs: 1 });
  context.after(() => engine.close());
  const inputTokens = { bounds: [10, 50], counts: [2, 1, 1], sum: 120 };
  const outputTokens = { bounds: [10, 50], counts: [0, 0, 0], sum: 0 };
  const lengths = { inputTokens, outputTokens, tokenizerFolder: '' };
  const shown = { model: 'tensorrt_llm', version: '1', client: engine, isInflight: true, ...lengths };
  const repository: Pick<ModelRepository, 'statistics' | 'engines'> = {
    statistics: () => [],
    engines: () => [shown],
  };
  const registry = new Registry();
  addTritonMetrics(registry, repository as ModelRepository);
  const idle = await registry.metrics();
  const value = (text: string, family: string, kind: string): number => {
    const line = new RegExp(
      `^nv_trt_llm_${family}\\{model="tensorrt_llm",\\w+="${kind}",version="1"\\} (\\S+)$`,
      'm',
    );
    const found = line.exec(text)?.[1];
    assert.ok(found !== undefined, `${family} ${kind}`);
    return Number(found);
  };
  assert.equal(value(idle, 'request_metrics', 'max'), 4);
  assert.equal(value(idle, 'request_metrics', 'active'), 0);
  assert.equal(value(idle, 'kv_cache_block_metrics', 'max'), 512);
  assert.ok(!idle.includes('nv_trt_llm_v1_metrics{'), 'no static batcher here');
  const length = 'nv_llm_input_token_len';
  const labels = 'model="tensorrt_llm",response_metric_type="total_input_tokens",version="1"';
  for (const [le, count] of [
    ['10', 2],
    ['50', 3],
    ['+Inf', 4],
  ]) {
    assert.ok(idle.includes(`${length}_bucket{${labels},le="${le}"} ${count}\n`), idle);
  }
  assert.ok(idle.includes(`${length}_sum{${labels}} 120\n${length}_count{${labels}} 4\n`), idle);
  assert.match(idle, /^# TYPE nv_llm_output_token_len histogram$/m);
  await new Promise<void>((resolve) => {
    engine.submit(
      {
        promptTokens: Int32Array.of(1, 2, 3),
        sampling: greedySampling,
        maxTokens: 100,
        minTokens: 0,
        stopTokenIds: [],
        sequences: 1,
        priority: 0,
      },
      (event) => event.tokens.length > 0 && resolve(),
    );
  });
  const busy = await registry.metrics();
  assert.equal(value(busy, 'request_metrics', 'active'), 1);
  assert.equal(value(busy, 'request_metrics', 'context'), 0);
  assert.equal(value(busy, 'inflight_batcher_metrics', 'paused_requests'), 0);
  assert.equal(value(busy, 'inflight_batcher_metrics', 'generation_requests'), 1);
  assert.ok(value(busy, 'general_metrics', 'iteration_counter') > 0);
  const used = value(busy, 'kv_cache_block_metrics', 'used');
  assert.equal(used + value(busy, 'kv_cache_block_metrics', 'free'), 512);
  assert.ok(used > 0);
});

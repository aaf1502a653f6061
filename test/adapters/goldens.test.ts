/** Greedy texts of real adapters, in one batch with each other and the base model, equal what PEFT and float64 arithmetic made. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { buildEngine } from '../../src/builder/build.ts';
import { defaultRecipe } from '../../src/builder/config.ts';
import { openEngine } from '../../src/builder/open-engine.ts';
import { adapterSettingsDefault } from '../../src/runtime/adapters/adapter.ts';
import { openAdapterCache } from '../../src/runtime/adapters/open.ts';
import { EngineCore } from '../../src/runtime/loop/engine-core.ts';
import { loadModel } from '../../src/runtime/process/load-model.ts';
import type { GenerationRequest } from '../../src/runtime/requests/request.ts';
import { temporaryFolder } from '../support/checkpoint-files.ts';
import { Outcomes, requestOf } from '../support/engine-simulator.ts';
import { sharedPath, skipWithout } from '../support/shared.ts';

interface Golden {
  prompts: { prompt_ids: number[]; greedy_ids: number[] }[];
}

const goldenOf = (folder: string): Golden =>
  JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as Golden;

interface Run {
  device: string;
  /** Engine folder or `.gguf`. */
  engine: string;
  /** The base model's folder with its golden texts, and the adapters'. */
  base: string;
  adapters: readonly string[];
  /** Which of the goldens' prompts. */
  prompts: readonly number[];
}

/** Runs all prompts with each adapter and without one, all in flight at once. */
async function check({ device: deviceName, engine, base, adapters, prompts }: Run): Promise<void> {
  const { source, linears } = await openEngine(engine);
  const sizes = { device: deviceName, deviceOptions: {}, threads: 2, slots: 16, batchTokensMax: 64 };
  const { device, model, options } = await loadModel('golden', source, {
    ...sizes,
    kvDtype: 'f32',
    contextLength: 256,
    prefixReuse: true,
    adapters: adapterSettingsDefault,
  });
  const cache = openAdapterCache(model.adapters!, adapterSettingsDefault, linears);
  const outcomes = new Outcomes();
  const core = new EngineCore(model, { ...options, adapters: cache }, (events) => outcomes.take(events));
  const expected: { golden: number[]; request: GenerationRequest }[] = [];
  for (const folder of [undefined, ...adapters]) {
    const adapter = folder === undefined ? undefined : await cache.load({ name: 'golden', path: folder });
    for (const index of prompts) {
      const { prompt_ids, greedy_ids } = goldenOf(folder ?? base).prompts[index]!;
      const request = requestOf({
        id: expected.length,
        promptTokens: Int32Array.from(prompt_ids),
        maxTokens: greedy_ids.length,
        ...(adapter && { adapter: { name: adapter.name, digest: adapter.digest } }),
      });
      // The name is given anew to each of them: who asked for the one before keeps that.
      core.submit(request);
      expected.push({ golden: greedy_ids, request });
    }
  }
  while (core.hasRunnable) await core.step();
  for (const { golden, request } of expected) {
    const { tokens } = outcomes.of(request.id, 0);
    assert.deepEqual(tokens, golden, `request ${request.id} with ${request.adapter?.digest}`);
  }
  model.close();
  device.close();
}

const stories = {
  engine: sharedPath('models/stories260K/stories260K-f32.gguf'),
  base: sharedPath('models/stories260K'),
  adapters: [sharedPath('models/stories260K-lora-zed'), sharedPath('models/stories260K-lora-exclaim')],
  prompts: [0, 1],
};

for (const device of ['reference', 'ggml']) {
  const skip = skipWithout('models/stories260K-lora-zed');
  test(`stories260K and its adapters on ${device}`, { skip }, () => check({ device, ...stories }));
}

test('the embedded model and its adapters on ggml', async (t) => {
  const base = join(packageRoot, 'models', 'nereid-16m');
  const engine = join(temporaryFolder(t), 'engine');
  const recipe = { ...defaultRecipe, dtype: 'f32' as const };
  await buildEngine({ source: base, name: 'nereid-16m', output: engine, recipe });
  const adapters = [`${base}-lora-capitals`, `${base}-lora-json`];
  await check({ device: 'ggml', engine, base, adapters, prompts: [0, 1, 2, 3, 4, 5, 6] });
});

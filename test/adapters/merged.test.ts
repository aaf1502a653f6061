/** What an adapter adds to a row is what the model says with the adapter merged into its weights: on every device, whatever else is in the batch. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { SeededRandom } from '../../src/base/random.ts';
import { loadAdapter } from '../../src/builder/adapter.ts';
import { openGguf } from '../../src/checkpoint/gguf-reader.ts';
import { linearShapes } from '../../src/device/adapters.ts';
import type { DeviceModel, DeviceModelSource } from '../../src/device/device.ts';
import { devices } from '../../src/device/registry.ts';
import { modelLinears } from '../../src/models/linears.ts';
import { architectureOfGguf } from '../../src/models/registry.ts';
import { type HfGolden, hfGoldens, sourceOfHuggingFace } from '../device/golden-models.ts';
import { type Extension, loadModel, runStep } from '../device/steps.ts';
import { temporaryFolder } from '../support/checkpoint-files.ts';
import { randomAdapter, writeMerged, writePeft } from './random-adapter.ts';

const room = { slots: 3, rankMax: 16, rankRows: 48 };

/** Relative L2 error allowed: ggml multiplies in another order, and GELU is a table there. */
const errorMax: Record<string, number> = { reference: 1e-5, ggml: 2e-3 };

async function open(t: TestContext, device: string, source: DeviceModelSource): Promise<DeviceModel> {
  const opened = await (await devices.load(device)).openDevice({});
  const limits = { batchTokensMax: 64, kvDtype: 'f32' as const, threads: 1, slots: 4, adapters: room };
  const model = await loadModel(opened, source, limits);
  t.after(() => {
    model.close();
    opened.close();
  });
  return model;
}

/** Logits of the last tokens of texts that grow together: a prompt each, then token by token. */
async function grow(
  model: DeviceModel,
  prompts: readonly number[][],
  adapters: readonly (number | undefined)[],
) {
  const rows: Float32Array[][] = prompts.map(() => []);
  const tail = 2;
  for (let step = 0; step <= tail; step++) {
    const extensions = prompts.map((prompt, slot): Extension => {
      const first = prompt.length - tail;
      const tokens = step === 0 ? prompt.slice(0, first) : prompt.slice(first + step - 1, first + step);
      const adapter = adapters[slot];
      const extension = { slot, position: step === 0 ? 0 : first + step - 1, tokens };
      return adapter === undefined ? extension : { ...extension, adapter };
    });
    let row = -1;
    const outputRows = extensions.map(({ tokens }) => (row += tokens.length));
    const { logits } = await runStep(model, extensions, { outputRows });
    const { values, places } = logits!;
    const width = values.length / (places ? new Set(places).size : outputRows.length);
    extensions.forEach((_, index) => {
      const place = places ? places[index]! : index;
      rows[index]!.push(values.slice(place * width, (place + 1) * width));
    });
  }
  return rows;
}

function relativeError(actual: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let sum = 0;
  expected.forEach((value, index) => {
    difference += (actual[index]! - value) ** 2;
    sum += value ** 2;
  });
  return Math.sqrt(difference / sum);
}

async function checkModel(
  t: TestContext,
  device: string,
  { name, folder, vocabulary }: HfGolden,
): Promise<void> {
  const isTransposed = name === 'gpt2';
  const temporary = temporaryFolder(t);
  const ggufPath = join(temporary, 'base.gguf');
  const source = await sourceOfHuggingFace(folder, ggufPath);
  const gguf = openGguf(ggufPath);
  const architecture = await architectureOfGguf(gguf);
  const names = new Set(linearShapes(source.record({ tokens: 1, outputRows: 1 })).keys());
  const linears = modelLinears(architecture, architecture.hyperparametersFromGguf(gguf), names);
  const specifications = [
    { seed: 1, rank: 3, modules: /./, isTransposed },
    { seed: 2, rank: 8, modules: /(q_proj|v_proj|c_attn)$/, isTransposed },
  ];
  const model = await open(t, device, source);
  const mergedModels: DeviceModel[] = [];
  for (const [index, specification] of specifications.entries()) {
    const adapter = randomAdapter(folder, { ...specification, modules: specification.modules });
    // An embedding is no linear layer.
    adapter.parts = adapter.parts.filter(({ module }) => !/embed_tokens|wte|wpe/.test(module));
    const peft = await writePeft(join(temporary, `adapter-${index}`), adapter);
    model.adapters!.load(index + 1, await loadAdapter(peft, linears));
    const merged = await writeMerged(folder, join(temporary, `merged-${index}`), adapter, isTransposed);
    const mergedSource = await sourceOfHuggingFace(merged, join(temporary, `merged-${index}.gguf`));
    mergedModels.push(await open(t, 'reference', mergedSource));
  }
  const base = await open(t, 'reference', source);
  const random = new SeededRandom(7);
  const texts = [6, 4, 9, 12].map((length) => Array.from({ length }, () => random.integer(vocabulary)));
  const mixed = await grow(model, texts, [1, undefined, 2, 1]);
  const references = [mergedModels[0]!, base, mergedModels[1]!, mergedModels[0]!];
  for (const [index, text] of texts.entries()) {
    const [alone] = await grow(references[index]!, [text], [undefined]);
    const [plain] = await grow(await open(t, 'reference', source), [text], [undefined]);
    for (const [step, expected] of alone!.entries()) {
      const error = relativeError(mixed[index]![step]!, expected);
      assert.ok(error < errorMax[device]!, `${name}, text ${index}, step ${step}: ${error}`);
      if (index === 1) continue;
      const change = relativeError(plain![step]!, expected);
      assert.ok(change > 0.01, `${name}: the adapter of text ${index} changes what the model says`);
    }
  }
}

for (const device of ['reference', 'ggml']) {
  for (const golden of hfGoldens()) {
    if (!['gpt2', 'llama2', 'llama-bias', 'qwen2', 'qwen3', 'smollm'].includes(golden.name)) continue;
    test(`${device}: ${golden.name} with adapters is the merged model`, (t) => checkModel(t, device, golden));
  }
}

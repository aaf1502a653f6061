import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loadModel, operate, operation, runStep, stepLogits } from '../../../test/device/steps.ts';
import { GraphBuilder } from '../../graph/builder.ts';
import type { BatchShape } from '../../graph/graph.ts';
import type { DeviceModelSource, LoadedWeights, WeightTensor } from '../device.ts';
import { hostChooses, want } from '../step.ts';
import { executablesMax } from './executable-cache.ts';
import { type GgmlModel, openDevice } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-ggml-'));
after(() => rmSync(folder, { recursive: true }));

const width = 64;
const vocabularySize = 96;
const heads = 4;
const headDimension = 16;
const layers = 2;

/** A small transformer with a sliding window in its second layer, random weights in a plain file. */
function source(name: string, contextLength = 64): DeviceModelSource & { path: string } {
  const path = join(folder, name);
  const weights = new Map<string, WeightTensor>();
  const values: number[] = [];
  const add = (tensor: string, shape: number[], value: () => number) => {
    const elements = shape.reduce((product, size) => product * size, 1);
    const offset = values.length * 4;
    for (let i = 0; i < elements; i++) values.push(value());
    weights.set(tensor, { name: tensor, dtype: 'f32', shape, path, offset, byteLength: elements * 4 });
  };
  let state = 1;
  const random = () => {
    state = (state * 48_271) % 2_147_483_647;
    return (state / 2_147_483_647 - 0.5) * 0.3;
  };
  add('table', [vocabularySize, width], random);
  add('norm', [width], () => 1);
  for (let layer = 0; layer < layers; layer++) {
    for (const part of ['q', 'k', 'v', 'o']) add(`${layer}.${part}`, [width, width], random);
  }
  writeFileSync(path, new Uint8Array(Float32Array.from(values).buffer));
  return {
    path,
    weights,
    record: (shape) => record(shape, weights),
    kv: {
      layers: [
        { kind: 'self', keyElements: width, valueElements: width },
        { kind: 'self', keyElements: width, valueElements: width, window: 5 },
      ],
    },
    vocabularySize,
    contextLength,
  };
}

function record(shape: BatchShape, weights: ReadonlyMap<string, WeightTensor>) {
  const g = new GraphBuilder();
  const batch = g.batch(shape);
  const weight = (name: string) => g.weight(name, weights.get(name)!.shape, 'f32');
  const rope = { mode: 'half', dimensions: headDimension, theta: 100, frequencyScale: 1 } as const;
  let x = g.embedding(weight('table'), batch.tokens);
  for (let layer = 0; layer < layers; layer++) {
    const h = g.rmsNorm(x, weight('norm'), 1e-5);
    const part = (name: string) =>
      g.heads(g.linear(h, { name: `${layer}.${name}`, weight: weight(`${layer}.${name}`) }), heads);
    const attributes = {
      layer,
      heads,
      kvHeads: heads,
      headDimension,
      valueHeadDimension: headDimension,
      scale: 0.25,
    };
    const q = g.rope(part('q'), batch.positions, rope);
    const k = g.rope(part('k'), batch.positions, rope);
    const a = g.attention(q, k, part('v'), layer === 1 ? { ...attributes, window: 5 } : attributes);
    x = g.add(x, g.linear(a, { name: `${layer}.o`, weight: weight(`${layer}.o`) }));
  }
  const logits = g.linear(g.rmsNorm(g.rows(x, batch.outputRows), weight('norm'), 1e-5), {
    name: 'output',
    weight: weight('table'),
  });
  return g.finish({ logits });
}

const options = { slots: 4, batchTokensMax: 32, kvDtype: 'f32' as const, threads: 1 };

async function load(name: string, changes: Partial<typeof options> = {}) {
  const device = openDevice({});
  const model = (await loadModel(device, source(name), { ...options, ...changes })) as GgmlModel;
  return { model, close: () => device.close() };
}

/** Runs segments `[slot, first position, tokens]`; logits of every row. */
function step(model: GgmlModel, parts: [number, number, number[]][], rows?: number[]): Promise<Float32Array> {
  const extensions = parts.map(([slot, position, tokens]) => ({ slot, position, tokens }));
  return stepLogits(model, extensions, rows);
}

function near(actual: Float32Array, expected: Float32Array, what: string): void {
  assert.equal(actual.length, expected.length);
  const off = actual.findIndex((value, i) => !(Math.abs(value - expected[i]!) < 1e-4));
  assert.equal(off, -1, `${what}: ${actual[off]} for ${expected[off]} at ${off}`);
}

const text = Array.from({ length: 20 }, (_, i) => (i * 37 + 5) % vocabularySize);

test('an fp8 KV cache is refused with what to do', async () => {
  const device = openDevice({});
  const wanted = { ...options, kvDtype: 'fp8' as const };
  await assert.rejects(loadModel(device, source('fp8'), wanted), /no fp8 KV cache: give --kv-dtype q8_0/);
  device.close();
});

test('windows: masked prefill and unmasked decode agree on every position', async () => {
  const { model, close } = await load('windows');
  const whole = await step(model, [[0, 0, text]]);
  for (const [i, token] of text.entries()) {
    const row = await step(model, [[3, i, [token]]]);
    near(row, whole.subarray(i * vocabularySize, (i + 1) * vocabularySize), `position ${i}`);
  }
  close();
});

test('a recorded graph serves any slots and lengths', async () => {
  const { model, close } = await load('reuse');
  const whole = await step(model, [[0, 0, text]]);
  const rowOf = (i: number) => whole.subarray(i * vocabularySize, (i + 1) * vocabularySize);
  for (const slot of [1, 2, 3]) await operate(model, operation('copy', 0, slot, 12));
  const first = await step(model, [
    [1, 4, [text[4]!]],
    [2, 9, [text[9]!]],
  ]);
  near(first.subarray(0, vocabularySize), rowOf(4), 'slot 1');
  near(first.subarray(vocabularySize), rowOf(9), 'slot 2');
  const second = await step(model, [
    [3, 12, [text[12]!]],
    [1, 5, [text[5]!]],
  ]);
  near(second.subarray(0, vocabularySize), rowOf(12), 'slot 3');
  near(second.subarray(vocabularySize), rowOf(5), 'slot 1 again');
  close();
});

test('only wanted rows come back, and none is allowed', async () => {
  const { model, close } = await load('rows');
  const whole = await step(model, [[0, 0, text]]);
  const chosen = await step(model, [[1, 0, text]], [3, 19]);
  near(chosen.subarray(0, vocabularySize), whole.subarray(3 * vocabularySize, 4 * vocabularySize), 'row 3');
  near(chosen.subarray(vocabularySize), whole.subarray(19 * vocabularySize), 'row 19');
  assert.equal((await step(model, [[2, 0, text.slice(0, 10)]], [])).length, 0);
  near(
    await step(model, [[2, 10, text.slice(10)]], [9]),
    whole.subarray(19 * vocabularySize),
    'after a silent chunk',
  );
  close();
});

test('greedy tokens are the argmax of the logits, beside rows that want their logits', async () => {
  const { model, close } = await load('greedy');
  const logits = await step(model, [[0, 0, text]], [18, 19]);
  const likeliest = [0, 1].map((row) => {
    const own = logits.subarray(row * vocabularySize, (row + 1) * vocabularySize);
    return own.indexOf(Math.max(...own));
  });
  const extension = [{ slot: 1, position: 0, tokens: text }];
  const greedy = await runStep(model, extension, { outputRows: [18, 19], wants: want.token });
  assert.deepEqual([...greedy.tokens], likeliest);
  assert.equal(greedy.logits, undefined);
  const mixed = await runStep(model, extension, { outputRows: [18, 19], wants: [want.token, want.logits] });
  assert.deepEqual([...mixed.tokens], [likeliest[0], hostChooses]);
  near(mixed.logits!.values.slice(vocabularySize), logits.slice(vocabularySize), 'the row that asked');
  close();
});

test('a mix of greedy and host rows needs no executable of its own', async () => {
  const { model, close } = await load('mixed');
  const extensions = [0, 1].map((slot) => ({ slot, position: 0, tokens: text.slice(0, 10) }));
  const outputRows = [9, 19];
  await runStep(model, extensions, { outputRows, wants: want.token });
  const recorded = model.recordedGraphs;
  await runStep(model, extensions, { outputRows, wants: [want.token, want.logits] });
  assert.equal(model.recordedGraphs, recorded);
  close();
});

test('prompts of nearly one length share a graph, and what pads them changes nothing', async () => {
  const { model, close } = await load('padded');
  const whole = await step(model, [[0, 0, text]]);
  const row = (position: number) =>
    whole.subarray(position * vocabularySize, (position + 1) * vocabularySize);
  const prompt = (slot: number, length: number) =>
    step(model, [[slot, 0, text.slice(0, length)]], [length - 1]);
  near(await prompt(1, 11), row(10), '11 rows');
  const recorded = model.recordedGraphs;
  for (const length of [9, 13, 16]) near(await prompt(1, length), row(length - 1), `${length} rows`);
  assert.equal(model.recordedGraphs, recorded);
  near(await step(model, [[1, 16, text.slice(16, 17)]]), row(16), 'goes on where it ended');
  near(await prompt(2, 10), row(9), '10 rows');
  const beside = await step(
    model,
    [
      [2, 10, text.slice(10, 11)],
      [3, 0, text.slice(0, 9)],
      [1, 0, text.slice(0, 12)],
    ],
    [0, 9, 21],
  );
  for (const [index, position] of [10, 8, 11].entries()) {
    near(
      beside.subarray(index * vocabularySize, (index + 1) * vocabularySize),
      row(position),
      `row ${index}`,
    );
  }
  close();
});

test('at the end of a slot, and of a step, nothing is padded', async () => {
  const { model, close } = await load('edges');
  const long = Array.from({ length: 63 }, (_, index) => (index * 5) % vocabularySize);
  const part = (slot: number, from: number, to: number, rows: number[] = []) =>
    step(model, [[slot, from, long.slice(from, to)]], rows);
  await part(0, 0, 32);
  const whole = await part(0, 32, 63, [30]);
  await part(1, 0, 31);
  await part(1, 31, 52);
  near(await part(1, 52, 63, [10]), whole, 'the last eleven positions');
  close();
});

test('many segments join without a chain of copies', async () => {
  const { model, close } = await load('joined', { slots: 8 });
  const whole = await step(model, [[0, 0, text]]);
  const parts = Array.from({ length: 6 }, (_, index): [number, number, number[]] => [
    index + 1,
    0,
    text.slice(0, 1 + (index % 3)),
  ]);
  const together = await step(model, parts);
  let row = 0;
  for (const [, , own] of parts) {
    for (let i = 0; i < own.length; i++, row++) {
      const actual = together.subarray(row * vocabularySize, (row + 1) * vocabularySize);
      near(actual, whole.subarray(i * vocabularySize, (i + 1) * vocabularySize), `row ${row}`);
    }
  }
  close();
});

test('more shapes than graphs are kept: old ones are dropped and recorded again', async () => {
  const { model, close } = await load('shapes');
  const expected = await step(model, [[0, 0, text]]);
  for (let shape = 0; shape < executablesMax + 8; shape++) {
    const rows = 1 + (shape % 8);
    const others: [number, number, number[]][] = [1, 2].map((slot) => [
      slot,
      0,
      text.slice(0, 1 + (Math.floor(shape / 8 ** slot) % 8)),
    ]);
    await step(model, [[3, 0, text.slice(0, rows)], ...others]);
    assert.ok(model.recordedGraphs <= executablesMax);
  }
  near(await step(model, [[0, 0, text]]), expected, 'the first shape, recorded again');
  close();
});

test('a bad batch is refused and the model stays usable', async () => {
  const { model, close } = await load('refused');
  const expected = await step(model, [[0, 0, text]]);
  const code = 'DEVICE_BATCH_INVALID';
  await assert.rejects(step(model, [[0, 0, [vocabularySize]]]), { code });
  await assert.rejects(step(model, [[0, 60, text]]), { code });
  await assert.rejects(operate(model, operation('copy', 0, 4, 1)), { code });
  await assert.rejects(operate(model, operation('copy', 0, 1, 65)), { code });
  await assert.rejects(operate(model, operation('release', -1)), { code });
  near(await step(model, [[0, 0, text]]), expected, 'after refusals');
  close();
});

test('blocks and a host tier are refused with what to do instead', async () => {
  const device = openDevice({});
  const weights = device.load(source('blocks'), options) as LoadedWeights;
  for (const size of [
    { blocks: 8, blockPositions: 16, hostBlocks: 0 },
    { blocks: 4, blockPositions: 64, hostBlocks: 1 },
  ]) {
    assert.throws(() => weights.allocateKv(size), { code: 'DEVICE_OPTION_INVALID', message: /leave/ });
  }
  device.close();
});

test('closing twice does no harm', async () => {
  const device = openDevice({});
  const weights = device.load(source('twice'), options) as LoadedWeights;
  await weights.allocateKv({ blocks: 1, blockPositions: 64, hostBlocks: 0 });
  weights.close();
  weights.close();
  device.close();
});

test('missing, truncated and misshapen weights are named', () => {
  const device = openDevice({});
  const missing = source('missing');
  const without = new Map(missing.weights);
  without.delete('1.o');
  assert.throws(() => device.load({ ...missing, weights: without }, options), {
    code: 'DEVICE_WEIGHT_MISSING',
    message: /'1\.o'/,
  });
  const short = source('short');
  truncateSync(short.path, 1000);
  assert.throws(() => device.load(short, options), { code: 'DEVICE_WEIGHT_INVALID', message: /1000 bytes/ });
  const bent = source('bent');
  const wrong = new Map(bent.weights);
  wrong.set('0.o', { ...wrong.get('0.o')!, byteLength: 12 });
  assert.throws(() => device.load({ ...bent, weights: wrong }, options), {
    code: 'DEVICE_WEIGHT_INVALID',
    message: /'0\.o'/,
  });
  device.close();
});

test('options are checked, unknown ones named', () => {
  assert.throws(() => openDevice({ polling: '1' }), {
    code: 'DEVICE_OPTION_INVALID',
    message: /no option 'polling'/,
  });
  assert.throws(() => openDevice({ poll: '101' }), { code: 'DEVICE_OPTION_INVALID' });
  assert.throws(() => openDevice({ repack: 'yes' }), { code: 'DEVICE_OPTION_INVALID' });
});

test('describe names the kernels that were picked and the release', () => {
  const { details, hardware } = openDevice({}).describe();
  assert.match(hardware, /kernels$/);
  assert.match(details.ggml!, /^\d+\.\d+\.\d+ \(/);
  assert.ok(details.library && details.features !== undefined);
});

test('loading and closing 50 times gives all memory back', async () => {
  const cycle = async () => {
    const { model, close } = await load('cycles', { slots: 64 });
    await step(model, [[5, 0, text]]);
    close();
  };
  for (let i = 0; i < 10; i++) await cycle();
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 50; i++) await cycle();
  globalThis.gc?.();
  const grownMiB = (process.memoryUsage().rss - before) / 2 ** 20;
  assert.ok(grownMiB < 48, `grew by ${grownMiB} MiB`);
});

test('probabilities are the softmax of each row at its temperature, block sums theirs; logits stay as they are', async () => {
  const { model, close } = await load('probabilities');
  const plain = await step(model, [[0, 0, text]]);
  const temperature = Float64Array.from(text, (_, row) => 0.3 + row / 2);
  const extension = [{ slot: 0, position: 0, tokens: text }];
  const wants = want.logits | want.probabilities;
  const { logits } = await runStep(model, extension, { wants, sampling: { temperature } });
  assert.ok(logits?.probabilities);
  near(logits.values, plain, 'logits');
  const { values, blockSums } = logits.probabilities;
  assert.equal(blockSums.length, text.length);
  for (const [row, own] of temperature.entries()) {
    const rowLogits = logits.values.subarray(row * vocabularySize, (row + 1) * vocabularySize);
    const powers = Array.from(rowLogits, (logit) => Math.exp(logit / own));
    const sum = powers.reduce((a, b) => a + b);
    const expected = Float32Array.from(powers, (power) => power / sum);
    near(values.slice(row * vocabularySize, (row + 1) * vocabularySize), expected, `row ${row}`);
    const blockSum = expected.subarray(0, 64).reduce((a, b) => a + b);
    assert.ok(Math.abs(blockSums[row]! - blockSum) < 1e-6);
  }
  close();
});

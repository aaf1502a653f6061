import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { GraphBuilder } from '../../graph/builder.ts';
import type { BatchShape } from '../../graph/graph.ts';
import type { DeviceModelOptions, DeviceModelSource, WeightTensor } from '../device.ts';
import { type GgmlModel, openDevice } from './index.ts';
import { executablesMax } from './model.ts';

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

const options: DeviceModelOptions = { slots: 4, batchTokensMax: 32, kvDtype: 'f32', threads: 1 };

function load(name: string, changes: Partial<DeviceModelOptions> = {}) {
  const device = openDevice({});
  const model = device.load(source(name), { ...options, ...changes }) as GgmlModel;
  return { model, close: () => device.close() };
}

/** Runs segments `[slot, first position, tokens]`; logits of every row. */
function step(model: GgmlModel, parts: [number, number, number[]][], rows?: number[]): Float32Array {
  const tokens = parts.flatMap((part) => part[2]);
  const { output } = model.run({
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(parts.flatMap(([, start, own]) => own.map((_, i) => start + i))),
    segments: parts.map(([slot, start, own]) => ({ slot, rows: own.length, kvLength: start + own.length })),
    outputRows: Int32Array.from(rows ?? tokens.keys()),
    want: 'logits',
  });
  assert.equal(output.kind, 'logits');
  return output.kind === 'logits' ? output.logits.slice() : new Float32Array(0);
}

function near(actual: Float32Array, expected: Float32Array, what: string): void {
  assert.equal(actual.length, expected.length);
  const off = actual.findIndex((value, i) => !(Math.abs(value - expected[i]!) < 1e-4));
  assert.equal(off, -1, `${what}: ${actual[off]} for ${expected[off]} at ${off}`);
}

const text = Array.from({ length: 20 }, (_, i) => (i * 37 + 5) % vocabularySize);

test('windows: masked prefill and unmasked decode agree on every position', () => {
  const { model, close } = load('windows');
  const whole = step(model, [[0, 0, text]]);
  text.forEach((token, i) => {
    const row = step(model, [[3, i, [token]]]);
    near(row, whole.subarray(i * vocabularySize, (i + 1) * vocabularySize), `position ${i}`);
  });
  close();
});

test('a recorded graph serves any slots and lengths', () => {
  const { model, close } = load('reuse');
  const whole = step(model, [[0, 0, text]]);
  const rowOf = (i: number) => whole.subarray(i * vocabularySize, (i + 1) * vocabularySize);
  for (const slot of [1, 2, 3]) model.copySlot(0, slot, 12);
  const first = step(model, [
    [1, 4, [text[4]!]],
    [2, 9, [text[9]!]],
  ]);
  near(first.subarray(0, vocabularySize), rowOf(4), 'slot 1');
  near(first.subarray(vocabularySize), rowOf(9), 'slot 2');
  const second = step(model, [
    [3, 12, [text[12]!]],
    [1, 5, [text[5]!]],
  ]);
  near(second.subarray(0, vocabularySize), rowOf(12), 'slot 3');
  near(second.subarray(vocabularySize), rowOf(5), 'slot 1 again');
  close();
});

test('only wanted rows come back, and none is allowed', () => {
  const { model, close } = load('rows');
  const whole = step(model, [[0, 0, text]]);
  const chosen = step(model, [[1, 0, text]], [3, 19]);
  near(chosen.subarray(0, vocabularySize), whole.subarray(3 * vocabularySize, 4 * vocabularySize), 'row 3');
  near(chosen.subarray(vocabularySize), whole.subarray(19 * vocabularySize), 'row 19');
  assert.equal(step(model, [[2, 0, text.slice(0, 10)]], []).length, 0);
  near(
    step(model, [[2, 10, text.slice(10)]], [9]),
    whole.subarray(19 * vocabularySize),
    'after a silent chunk',
  );
  close();
});

test('greedy tokens are the argmax of the logits', () => {
  const { model, close } = load('greedy');
  const logits = step(model, [[0, 0, text]], [19]);
  const { output } = model.run({
    tokens: Int32Array.from(text),
    positions: Int32Array.from(text.keys()),
    segments: [{ slot: 1, rows: text.length, kvLength: text.length }],
    outputRows: Int32Array.of(19),
    want: 'greedy',
  });
  assert.deepEqual(output, { kind: 'tokens', tokens: Int32Array.of(logits.indexOf(Math.max(...logits))) });
  close();
});

test('more shapes than graphs are kept: old ones are dropped and recorded again', () => {
  const { model, close } = load('shapes');
  const expected = step(model, [[0, 0, text]]);
  for (let shape = 0; shape < executablesMax + 8; shape++) {
    const rows = 1 + (shape % 8);
    const others: [number, number, number[]][] = [1, 2].map((slot) => [
      slot,
      0,
      text.slice(0, 1 + (Math.floor(shape / 8 ** slot) % 8)),
    ]);
    step(model, [[3, 0, text.slice(0, rows)], ...others]);
    assert.ok(model.recordedGraphs <= executablesMax);
  }
  near(step(model, [[0, 0, text]]), expected, 'the first shape, recorded again');
  close();
});

test('a bad batch is refused and the model stays usable', () => {
  const { model, close } = load('refused');
  const expected = step(model, [[0, 0, text]]);
  assert.throws(() => step(model, [[0, 0, [vocabularySize]]]), { code: 'DEVICE_BATCH_INVALID' });
  assert.throws(() => step(model, [[0, 60, text]]), { code: 'DEVICE_BATCH_INVALID' });
  assert.throws(() => model.copySlot(0, 4, 1), { code: 'DEVICE_BATCH_INVALID' });
  assert.throws(() => model.copySlot(0, 1, 65), { code: 'DEVICE_BATCH_INVALID' });
  assert.throws(() => model.releaseSlot(-1), { code: 'DEVICE_BATCH_INVALID' });
  near(step(model, [[0, 0, text]]), expected, 'after refusals');
  close();
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

test('loading and closing 50 times gives all memory back', () => {
  const cycle = () => {
    const { model, close } = load('cycles', { slots: 64 });
    step(model, [[5, 0, text]]);
    close();
  };
  for (let i = 0; i < 10; i++) cycle();
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 50; i++) cycle();
  globalThis.gc?.();
  const grownMiB = (process.memoryUsage().rss - before) / 2 ** 20;
  assert.ok(grownMiB < 48, `grew by ${grownMiB} MiB`);
});

test('probabilities are the softmax of each row at its temperature, block sums theirs; logits stay as they are', () => {
  const { model, close } = load('probabilities');
  const plain = step(model, [[0, 0, text]]);
  const temperatures = Float32Array.from(text, (_, row) => 0.3 + row / 2);
  const batch = {
    tokens: Int32Array.from(text),
    positions: Int32Array.from(text.keys()),
    segments: [{ slot: 0, rows: text.length, kvLength: text.length }],
    outputRows: Int32Array.from(text.keys()),
    want: 'logits' as const,
  };
  const { output } = model.run({ ...batch, temperatures });
  assert.ok(output.kind === 'logits' && output.probabilities);
  near(output.logits, plain, 'logits');
  const { values, blockSums } = output.probabilities;
  assert.equal(blockSums.length, text.length);
  for (const [row, temperature] of temperatures.entries()) {
    const own = output.logits.subarray(row * vocabularySize, (row + 1) * vocabularySize);
    const powers = Array.from(own, (logit) => Math.exp(logit / temperature));
    const sum = powers.reduce((a, b) => a + b);
    const expected = Float32Array.from(powers, (power) => power / sum);
    near(values.slice(row * vocabularySize, (row + 1) * vocabularySize), expected, `row ${row}`);
    const blockSum = expected.subarray(0, 64).reduce((a, b) => a + b);
    assert.ok(Math.abs(blockSums[row]! - blockSum) < 1e-6);
  }
  for (const bad of [temperatures.slice(1), temperatures.map(() => 0), temperatures.map(() => Number.NaN)]) {
    assert.throws(() => model.run({ ...batch, temperatures: bad }), { code: 'DEVICE_BATCH_INVALID' });
  }
  assert.throws(() => model.run({ ...batch, want: 'greedy', temperatures }), {
    code: 'DEVICE_BATCH_INVALID',
  });
  close();
});

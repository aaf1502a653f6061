import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { SeededRandom } from '../../src/base/random.ts';
import { type AdapterTensors, linearShapes } from '../../src/device/adapters.ts';
import type { DeviceModel, DeviceModelSource } from '../../src/device/device.ts';
import { devices } from '../../src/device/registry.ts';
import { type StepOutput, want } from '../../src/device/step.ts';
import { base, randomModel } from './model-conformance.ts';
import { type Extension, loadModel, operate, operation, relativeError, runStep } from './steps.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-hidden-adapters-'));
after(() => rmSync(folder, { recursive: true }));

const { vocabularySize } = base;
const room = { slots: 2, rankMax: 8, rankRows: 32 };

/** Changes every linear, the output matrix too. */
function randomAdapter(source: DeviceModelSource, seed: number): AdapterTensors {
  const random = new SeededRandom(seed);
  const values = (count: number, scale: number) =>
    Float32Array.from({ length: count }, () => scale * (2 * random.next() - 1));
  const parts = [...linearShapes(source.record({ tokens: 1, outputRows: 1 }))].map(
    ([name, { inputs, outputs }]) => {
      const a = values(4 * inputs, Math.sqrt(3 / inputs));
      return { name, rank: 4, inputs, outputs, a, b: values(outputs * 4, 0.4) };
    },
  );
  return { digest: `${seed}`, rank: 4, parts, byteLength: 0 };
}

const some = (count: number, first: number): number[] =>
  Array.from({ length: count }, (_, k) => (first + 7 * k) % vocabularySize);

/** Few and many rows, with each adapter and with none. */
const step: Extension[] = [
  { slot: 0, position: 0, tokens: some(3, 1), adapter: 0 },
  { slot: 1, position: 0, tokens: some(12, 5), adapter: 1 },
  { slot: 2, position: 0, tokens: some(5, 9) },
  { slot: 3, position: 0, tokens: some(1, 40), adapter: 1 },
];
const rowCount = step.reduce((sum, { tokens }) => sum + tokens.length, 0);

/** What each row of a step is asked for. Rows that are asked for nothing are no output rows. */
const wishes: Record<string, (row: number) => number> = {
  'one row a sequence': (row) =>
    ({ 2: want.hidden, 14: want.logits, 19: want.logits | want.hidden, 20: want.logits })[row] ?? 0,
  'many rows': (row) => [want.hidden, want.logits, want.hidden | want.logits, 0][row % 4]!,
  'every row': (row) => (row % 2 === 0 ? want.hidden : want.logits),
};

async function run(model: DeviceModel, wish: (row: number) => number) {
  const outputRows = Array.from({ length: rowCount }, (_, row) => row).filter((row) => wish(row) > 0);
  const wants = outputRows.map(wish);
  const output = await runStep(model, step, { outputRows, wants });
  const found = outputRows.map((row, index) => ({ row, ...valuesOf(model, output, index, wants[index]!) }));
  for (const { slot } of step) await operate(model, operation('release', slot!));
  return found;
}

function valuesOf(model: DeviceModel, { logits, rowHidden }: StepOutput, index: number, wanted: number) {
  const rowOf = (part: { values: Float32Array; places?: Int32Array }, width: number): Float32Array => {
    const place = part.places?.[index] ?? index;
    return part.values.slice(place * width, (place + 1) * width);
  };
  return {
    logits: wanted & want.logits ? rowOf(logits!, vocabularySize) : undefined,
    hidden: wanted & want.hidden ? rowOf(rowHidden!, model.hiddenWidth!) : undefined,
  };
}

for (const name of ['reference', 'ggml']) {
  test(`${name}: hidden states beside logits of rows with adapters of every linear`, async () => {
    const device = await (await devices.load(name)).openDevice({});
    const source = await randomModel(base, 'f32', join(folder, `${name}.gguf`));
    const settings = { slots: 4, batchTokensMax: 64, threads: 1, kvDtype: 'f32' as const, adapters: room };
    const model = await loadModel(device, { ...source, contextLength: 64 }, settings);
    for (const slot of [0, 1]) model.adapters?.load(slot, randomAdapter(source, slot + 1));
    const plain = await run(model, () => want.logits);
    const states = await run(model, () => want.hidden);
    for (const [title, wish] of Object.entries(wishes)) {
      for (const { row, logits, hidden } of await run(model, wish)) {
        if (logits) near(logits, plain[row]!.logits!, `${title}: logits of row ${row}`);
        if (hidden) near(hidden, states[row]!.hidden!, `${title}: hidden state of row ${row}`);
      }
    }
    model.close();
    device.close();
  });
}

function near(actual: Float32Array, expected: Float32Array, what: string): void {
  const error = relativeError(actual, expected);
  assert.ok(error < 1e-3, `${what}: relative error ${error}`);
}

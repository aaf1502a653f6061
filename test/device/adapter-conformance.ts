import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { SeededRandom } from '../../src/base/random.ts';
import { type AdapterTensors, linearShapes } from '../../src/device/adapters.ts';
import type { Device, DeviceModel, DeviceModelOptions, DeviceModelSource } from '../../src/device/device.ts';
import { openDevice as openReference } from '../../src/device/reference/index.ts';
import { base, randomModel } from './model-conformance.ts';
import { type Extension, loadModel, relativeError, stepLogits } from './steps.ts';

export interface AdapterConformanceOptions {
  openDevice: () => Device | Promise<Device>;
  /** Relative L2 error allowed of a step's logits. */
  tolerance: number;
  kvDtype: DeviceModelOptions['kvDtype'];
}

const ranks = [3, 16, 8, 21];
const room = { slots: 4, rankMax: 24, rankRows: 64 };
const settings = { slots: 8, blockPositions: 32, batchTokensMax: 256, threads: 1, adapters: room };

/** An adapter of some of the model's linears, large enough that it changes what comes out. */
function randomAdapter(source: DeviceModelSource, rank: number): AdapterTensors {
  const random = new SeededRandom(rank);
  const values = (count: number, scale: number) =>
    Float32Array.from({ length: count }, () => scale * (2 * random.next() - 1));
  const shapes = [...linearShapes(source.record({ tokens: 1, outputRows: 1 }))];
  const parts = shapes
    .filter((_, index) => (index + rank) % 4 !== 0)
    .map(([name, { inputs, outputs }], index) => {
      const own = index % 3 === 0 ? Math.max(1, rank - 2) : rank;
      const a = values(own * inputs, Math.sqrt(3 / inputs));
      return { name, rank: own, inputs, outputs, a, b: values(outputs * own, 0.4) };
    });
  return { digest: `${rank}`, rank, parts, byteLength: 0 };
}

const tokens = (count: number, first: number) =>
  Array.from({ length: count }, (_, k) => (first + 7 * k) % base.vocabularySize);

/** Prompts and decode rows of several adapters and of none, few and many rows at once. */
const steps: Extension[][] = [
  [{ blocks: [0, 1], position: 0, tokens: tokens(3, 1), adapter: 1 }],
  [
    { blocks: [2, 3], position: 0, tokens: tokens(37, 5), adapter: 0 },
    { blocks: [4, 5], position: 0, tokens: tokens(5, 9) },
    { blocks: [6, 7], position: 0, tokens: tokens(18, 2), adapter: 2 },
    { blocks: [0, 1], position: 3, tokens: tokens(1, 40), adapter: 1 },
  ],
  Array.from({ length: 12 }, (_, k) => ({
    ...{ blocks: [8 + k], position: 0, tokens: tokens(1, 20 + k) },
    adapter: [0, 0, -1, 2, 1, 1, 1, -1, 2, 0, 1, 2][k] as number,
  })),
  [
    { blocks: [2, 3], position: 37, tokens: tokens(1, 11), adapter: 0 },
    { blocks: [4, 5], position: 5, tokens: tokens(1, 12), adapter: -1 },
  ],
];

/** Registers a test of LoRA adapters against the reference device: any mix of them in a step, and what comes and goes between steps. */
export function adapterConformance(name: string, options: AdapterConformanceOptions): void {
  describe(`${name} device, adapters`, () => {
    let folder = '';
    let device: Device;
    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'nereid-adapters-'));
      device = await options.openDevice();
    });
    after(() => {
      device.close();
      rmSync(folder, { recursive: true });
    });
    test('rows of any mix of adapters, and slots that are filled anew', async (t) => {
      const source = await randomModel(base, 'bf16', join(folder, 'model.gguf'));
      const own = { ...settings, kvDtype: options.kvDtype };
      const models = [await loadModel(device, source, own), await loadModel(openReference(), source, own)];
      const each = (change: (model: DeviceModel) => void) => {
        for (const model of models) change(model);
      };
      const adapters = ranks.map((rank) => randomAdapter(source, rank));
      each((model) => {
        for (const [slot, one] of adapters.slice(0, 3).entries()) model.adapters?.load(slot, one);
      });
      const errors: number[] = [];
      const check = async (step: Extension[]) => {
        const [actual, expected] = [await stepLogits(models[0]!, step), await stepLogits(models[1]!, step)];
        errors.push(relativeError(actual, expected));
      };
      for (const step of steps) await check(step);
      each((model) => {
        model.adapters?.unload(1);
        model.adapters?.load(1, adapters[3]!);
      });
      await check([{ blocks: [30, 31], position: 0, tokens: tokens(9, 3), adapter: 1 }]);
      const plain = await stepLogits(models[0]!, [{ blocks: [30, 31], position: 0, tokens: tokens(9, 3) }]);
      t.diagnostic(`relative errors ${errors.map((error) => error.toExponential(1)).join(' ')}`);
      for (const error of errors) assert.ok(error <= options.tolerance, `relative error ${error}`);
      // An adapter that changed nothing would pass above.
      const changed = await stepLogits(models[0]!, [
        { blocks: [30, 31], position: 0, tokens: tokens(9, 3), adapter: 1 },
      ]);
      assert.ok(relativeError(changed, plain) > 0.1);
      for (const model of models) model.close();
    });
  });
}

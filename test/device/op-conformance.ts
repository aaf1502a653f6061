import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { f32ToF16 } from '../../src/base/half.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { openGguf } from '../../src/checkpoint/gguf-reader.ts';
import { writeGguf } from '../../src/checkpoint/gguf-writer.ts';
import type { Device, DeviceModel, DeviceModelOptions, DeviceModelSource } from '../../src/device/device.ts';
import { openDevice as openReference } from '../../src/device/reference/index.ts';
import { GraphBuilder } from '../../src/graph/builder.ts';
import { type DType, dtypes, isQuantized, rowBytes } from '../../src/graph/dtype.ts';
import type { Shape } from '../../src/graph/graph.ts';
import { elementCount } from '../../src/graph/rules.ts';
import { encodeFloats, type MatrixType } from './golden-models.ts';
import { type OpCase, opCases } from './op-cases.ts';
import { loadModel, relativeError, stepLogits } from './steps.ts';

export interface OpConformanceOptions {
  openDevice: () => Device | Promise<Device>;
  /** Relative L2 error allowed of a case whose weights are stored as `storage`. */
  tolerance: (storage: DType, name: string) => number;
  kvDtype: DeviceModelOptions['kvDtype'];
}

/** Where the f16 scales lie within a block; random bits there could be infinite. */
const scaleOffsets: Partial<Record<DType, readonly number[]>> = {
  q8_0: [0],
  q4_0: [0],
  q4_1: [0, 2],
  q5_0: [0],
  q5_1: [0, 2],
  q4_k: [0, 2],
  q5_k: [0, 2],
  q6_k: [208],
};

/** Registers a test of every op against the reference device, on random data. */
export function opConformance(name: string, options: OpConformanceOptions): void {
  describe(`${name} device, op by op`, () => {
    let folder = '';
    let device: Device;
    const reference = openReference();
    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'nereid-ops-'));
      device = await options.openDevice();
    });
    after(() => {
      device.close();
      rmSync(folder, { recursive: true });
    });
    for (const [index, opCase] of opCases().entries()) {
      test(opCase.name, async () => {
        const source = await sourceOf(opCase, join(folder, `${index}.gguf`), index + 1);
        const settings = { slots: 2, batchTokensMax: 16, threads: 1, kvDtype: options.kvDtype };
        const expected = await loadModel(reference, source, settings);
        const actual = await loadModel(device, source, settings);
        const tolerance = options.tolerance(opCase.storage, opCase.name);
        await compare(actual, expected, tolerance);
        actual.close();
        expected.close();
      });
    }
  });
}

/** Two sequences over two steps, so that attention reads what an earlier step wrote. */
async function compare(actual: DeviceModel, expected: DeviceModel, tolerance: number): Promise<void> {
  const steps = [
    [
      { slot: 0, position: 0, tokens: [5, 1, 4, 2, 3] },
      { slot: 1, position: 0, tokens: [6, 0, 7] },
    ],
    [
      { slot: 1, position: 3, tokens: [9] },
      { slot: 0, position: 5, tokens: [8, 10] },
    ],
  ];
  for (const [index, extensions] of steps.entries()) {
    const error = relativeError(await stepLogits(actual, extensions), await stepLogits(expected, extensions));
    assert.ok(error <= tolerance, `step ${index}: relative error ${error}, allowed ${tolerance}`);
  }
}

async function sourceOf(opCase: OpCase, path: string, seed: number): Promise<DeviceModelSource> {
  const random = new SeededRandom(seed);
  const { outputs, width } = opCase;
  const specs = { table: { shape: [outputs, width], dtype: 'f32' as DType }, ...opCase.weights };
  const tensors = Object.entries(specs).map(([name, { shape, dtype }]) => ({
    name,
    shape,
    dtype,
    data: randomTensor(shape, dtype, random),
  }));
  await writeGguf(path, { metadata: [['general.architecture', { type: 'string', value: 'test' }]], tensors });
  const { tensors: weights } = openGguf(path);
  return {
    record(shape) {
      const g = new GraphBuilder();
      const batch = g.batch(shape);
      const weight = (name: string) => {
        const { shape: size, dtype } = weights.get(name)!;
        return g.weight(name, size, dtype);
      };
      const result = opCase.record(g, g.embedding(weight('table'), batch.tokens), weight, batch);
      return g.finish({ logits: g.rows(result, batch.outputRows) });
    },
    weights,
    kv: opCase.kv,
    vocabularySize: outputs,
    contextLength: 32,
  };
}

function randomTensor(shape: Shape, dtype: DType, random: SeededRandom): Uint8Array {
  if (isQuantized(dtype)) return randomBlocks(shape, dtype, random);
  // Away from zero, so that they also serve as norms' weights and as divisors.
  const sign = shape.length > 1 ? () => (random.next() < 0.5 ? -1 : 1) : () => 1;
  const floats = Float32Array.from(
    { length: elementCount(shape) },
    () => sign() * (0.5 + 1.5 * random.next()),
  );
  return encodeFloats(dtype as MatrixType, floats);
}

function randomBlocks(shape: Shape, dtype: DType, random: SeededRandom): Uint8Array {
  const rows = elementCount(shape.slice(0, -1));
  const bytes = Uint8Array.from({ length: rows * rowBytes(dtype, shape.at(-1) ?? 1) }, () =>
    random.integer(256),
  );
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < bytes.length; block += dtypes[dtype].blockBytes) {
    for (const offset of scaleOffsets[dtype] ?? []) {
      view.setUint16(block + offset, f32ToF16(0.01 + 0.1 * random.next()), true);
    }
  }
  return bytes;
}

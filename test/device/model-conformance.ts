import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { e4m3Max, e4m3Values, f32ToE4m3 } from '../../src/base/e4m3.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { openGguf } from '../../src/checkpoint/gguf-reader.ts';
import { writeGguf } from '../../src/checkpoint/gguf-writer.ts';
import type { Device, DeviceModelOptions, DeviceModelSource } from '../../src/device/device.ts';
import { openDevice as openReference } from '../../src/device/reference/index.ts';
import { elementCount } from '../../src/graph/rules.ts';
import type { Hyperparameters } from '../../src/models/hyperparameters.ts';
import { architectures } from '../../src/models/registry.ts';
import { modelSource } from '../../src/models/source.ts';
import { modelWeights } from '../../src/models/weights.ts';
import { encodeFloats, type MatrixType } from './golden-models.ts';
import { type Extension, loadModel, relativeError, stepLogits } from './steps.ts';

export interface ModelConformanceOptions {
  openDevice: () => Device | Promise<Device>;
  /** Relative L2 error allowed of models with matrices of this type; `freshRows` is how many rows a step has that reads nothing of earlier steps. */
  tolerance: (matrixType: MatrixType, freshRows: number | undefined) => number;
  kvDtype: DeviceModelOptions['kvDtype'];
  /** Which models; default all. */
  takes?: (p: Hyperparameters, matrixType: MatrixType) => boolean;
}

/** A Llama of two layers. */
export const base: Hyperparameters = {
  architecture: 'llama',
  layers: 2,
  width: 256,
  heads: 8,
  kvHeads: 2,
  headDimension: 64,
  feedForwardWidth: 384,
  vocabularySize: 300,
  contextLength: 512,
  normEpsilon: 1e-5,
  rope: { theta: 10000, dimensions: 64 },
  tiedEmbeddings: false,
};
const { rope: _, ...learned } = base;

/** Shapes that fast kernels take (heads of 64 and 128 elements, few and many heads a key), and that they leave to others. */
const models: [name: string, p: Hyperparameters, matrixType: MatrixType][] = [
  ['heads of 64', base, 'bf16'],
  ['heads of 64', base, 'f32'],
  [
    'heads of 128',
    { ...base, heads: 4, kvHeads: 1, headDimension: 128, rope: { theta: 1e4, dimensions: 128 } },
    'bf16',
  ],
  [
    'heads of 128',
    { ...base, heads: 4, kvHeads: 1, headDimension: 128, rope: { theta: 1e4, dimensions: 128 } },
    'f16',
  ],
  ['twelve heads a key', { ...base, heads: 12, kvHeads: 1 }, 'bf16'],
  ['a window', { ...base, window: 40 }, 'bf16'],
  ['320 words', { ...base, vocabularySize: 320 }, 'bf16'],
  [
    'odd heads',
    { ...base, heads: 6, kvHeads: 3, headDimension: 48, rope: { theta: 1e4, dimensions: 48 } },
    'bf16',
  ],
  ['qwen2', { ...base, architecture: 'qwen2' }, 'bf16'],
  ['qwen3', { ...base, architecture: 'qwen3' }, 'bf16'],
  ['gpt2', { ...learned, architecture: 'gpt2', kvHeads: 8, width: 512, tiedEmbeddings: true }, 'bf16'],
];

/** Registers a test of whole models with random weights against the reference device, over paged KV and mixed steps. */
export function modelConformance(name: string, options: ModelConformanceOptions): void {
  describe(`${name} device, small models`, () => {
    let folder = '';
    let device: Device;
    const reference = openReference();
    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'nereid-models-'));
      device = await options.openDevice();
    });
    after(() => {
      device.close();
      rmSync(folder, { recursive: true });
    });
    for (const [index, [title, p, matrixType]] of models.entries()) {
      if (options.takes?.(p, matrixType) === false) continue;
      test(`${title}, ${matrixType}`, async (t) => {
        const source = await randomModel(p, matrixType, join(folder, `${index}.gguf`));
        const settings = {
          slots: 4,
          blockPositions: 32,
          batchTokensMax: 256,
          threads: 1,
          kvDtype: options.kvDtype,
        };
        const expected = await loadModel(reference, source, settings);
        const actual = await loadModel(device, source, settings);
        const errors: number[] = [];
        for (const extensions of steps(p.vocabularySize)) {
          const isFresh = extensions.every(({ position }) => position === 0);
          const rows = extensions.reduce((sum, { tokens }) => sum + tokens.length, 0);
          const error = relativeError(
            await stepLogits(actual, extensions),
            await stepLogits(expected, extensions),
          );
          errors.push(error);
          const allowed = options.tolerance(matrixType, isFresh ? rows : undefined);
          assert.ok(error <= allowed, `${rows} rows: relative error ${error}, allowed ${allowed}`);
        }
        t.diagnostic(`relative errors ${errors.map((error) => error.toExponential(1)).join(' ')}`);
        actual.close();
        expected.close();
      });
    }
  });
}

/** A prompt in chunks beside decoding, one sequence alone (few rows), and twelve at once. */
function steps(vocabulary: number): Extension[][] {
  const random = new SeededRandom(5);
  const some = (count: number) => Array.from({ length: count }, () => random.integer(vocabulary));
  const long = [1, 5, 3, 20, 21, 22, 23];
  const short = [9];
  const twelve = (position: number) =>
    Array.from({ length: 12 }, (_, k) => ({ position, tokens: some(1), blocks: [30 + k] }));
  return [
    [{ position: 0, tokens: some(1), blocks: short }],
    [
      { position: 0, tokens: some(70), blocks: long.slice(0, 3) },
      { position: 1, tokens: some(1), blocks: short },
    ],
    [
      { position: 70, tokens: some(150), blocks: long },
      { position: 2, tokens: some(2), blocks: short },
      { position: 0, tokens: some(3), blocks: [10] },
    ],
    [
      { position: 220, tokens: some(1), blocks: long },
      { position: 4, tokens: some(1), blocks: short },
    ],
    [{ position: 221, tokens: some(1), blocks: long }],
    [{ position: 222, tokens: some(1), blocks: long }],
    twelve(0),
    [{ position: 223, tokens: some(1), blocks: long }, ...twelve(1)],
  ];
}

/**
 * Elements of a matrix that 8 bits with a scale a row hold exactly: e4m3 numbers times a power of two, the largest one in every row. So what
 * differs on a device of 8-bit matrices is not the weights.
 */
function onGrid(width: number, random: SeededRandom): (_: unknown, index: number) => number {
  const step = 2 ** Math.round(Math.log2(Math.sqrt(3 / width) / e4m3Max));
  return (_, index) => {
    const value = index % width === 0 ? e4m3Max : e4m3Max * (2 * random.next() - 1);
    return step * e4m3Values[f32ToE4m3(value)]!;
  };
}

/** Random weights of an architecture, as a GGUF file. */
export async function randomModel(
  p: Hyperparameters,
  matrixType: MatrixType,
  path: string,
): Promise<DeviceModelSource> {
  const architecture = await architectures.load(p.architecture);
  const random = new SeededRandom(3);
  const tensors = modelWeights(architecture, p)
    .filter(({ presence }) => presence !== 'optional')
    .map(({ gguf, shape }) => {
      const isVector = shape.length === 1;
      const value = isVector ? () => 1 + 0.2 * (2 * random.next() - 1) : onGrid(shape[1]!, random);
      const dtype = isVector ? 'f32' : matrixType;
      const data = encodeFloats(dtype, Float32Array.from({ length: elementCount(shape) }, value));
      return { name: gguf, shape, dtype, data };
    });
  await writeGguf(path, { metadata: [['general.architecture', { type: 'string', value: 'test' }]], tensors });
  return modelSource(architecture, p, openGguf(path).tensors);
}

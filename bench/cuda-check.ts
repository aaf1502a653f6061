// The CUDA device against the reference device: every op case, and small models through steps that mix prompts and decoding.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openGguf } from '../src/checkpoint/gguf-reader.ts';
import { writeGguf } from '../src/checkpoint/gguf-writer.ts';
import { SeededRandom } from '../src/base/random.ts';
import { openDevice as openCuda } from '../src/device/cuda/index.ts';
import type { Device, DeviceModel, DeviceModelSource } from '../src/device/device.ts';
import { openDevice as openReference } from '../src/device/reference/index.ts';
import { want } from '../src/device/step.ts';
import { GraphBuilder } from '../src/graph/builder.ts';
import type { DType } from '../src/graph/dtype.ts';
import { isQuantized } from '../src/graph/dtype.ts';
import { elementCount } from '../src/graph/rules.ts';
import type { Hyperparameters } from '../src/models/hyperparameters.ts';
import { architectures } from '../src/models/registry.ts';
import { modelSource } from '../src/models/source.ts';
import { modelWeights } from '../src/models/weights.ts';
import { encodeFloats, type MatrixType } from '../test/device/golden-models.ts';
import { type OpCase, opCases } from '../test/device/op-cases.ts';
import { type Part, step } from './cuda-model.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-cuda-'));

async function opSource(opCase: OpCase, path: string, seed: number): Promise<DeviceModelSource> {
  const random = new SeededRandom(seed);
  const specs = { table: { shape: [opCase.outputs, opCase.width], dtype: 'f32' as DType }, ...opCase.weights };
  const tensors = Object.entries(specs).map(([name, { shape, dtype }]) => {
    const sign = shape.length > 1 ? () => (random.next() < 0.5 ? -1 : 1) : () => 1;
    const floats = Float32Array.from({ length: elementCount(shape) }, () => sign() * (0.5 + 1.5 * random.next()));
    return { name, shape, dtype, data: encodeFloats(dtype as MatrixType, floats) };
  });
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
    vocabularySize: opCase.outputs,
    contextLength: 32,
  };
}

async function modelOf(device: Device, source: DeviceModelSource, blockPositions: number): Promise<DeviceModel> {
  const weights = await device.load(source, { batchTokensMax: 512, kvDtype: 'f32', threads: 1 });
  return await weights.allocateKv({ blocks: 64, blockPositions, hostBlocks: 0 });
}

function relativeError(actual: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let norm = 0;
  expected.forEach((value, i) => {
    difference += (actual[i]! - value) ** 2;
    norm += value ** 2;
  });
  return actual.length === expected.length ? Math.sqrt(difference / norm) : Number.NaN;
}

async function logits(model: DeviceModel, parts: Part[]): Promise<Float32Array> {
  const { output } = await step(model, parts, want.logits | want.token);
  return output.logits!.values.slice();
}

async function compare(a: DeviceModel, b: DeviceModel, steps: Part[][]): Promise<string> {
  const errors: string[] = [];
  for (const parts of steps) errors.push(relativeError(await logits(a, parts), await logits(b, parts)).toExponential(1));
  return errors.join(' ');
}

const reference = openReference();
const random = new SeededRandom(5);
const some = (count: number, below: number) => Array.from({ length: count }, () => random.integer(below));

async function checkOps(activations: string): Promise<void> {
  const device = await openCuda({ activations });
  const lines: string[] = [];
  for (const [index, opCase] of opCases().entries()) {
    if (isQuantized(opCase.storage)) continue;
    try {
      const source = await opSource(opCase, join(folder, `${activations}${index}.gguf`), index + 1);
      const [a, b] = [await modelOf(device, source, 16), await modelOf(await reference, source, 16)];
      const wants = true;
      const result = await compare(a, b, [
        [
          { position: 0, tokens: [5, 1, 4, 2, 3], blocks: [3], wants },
          { position: 0, tokens: [6, 0, 7], blocks: [7], wants },
        ],
        [
          { position: 3, tokens: [9], blocks: [7], wants },
          { position: 5, tokens: [8, 10], blocks: [3], wants },
        ],
      ]);
      lines.push(`${opCase.name}: ${result}`);
      a.close();
    } catch (thrown) {
      lines.push(`${opCase.name}: FAILED ${String(thrown).slice(0, 300)}`);
    }
  }
  console.log(`--- ops, activations ${activations}\n${lines.join('; ')}`);
}

async function checkModel(name: string, p: Hyperparameters, dtype: MatrixType): Promise<void> {
  const architecture = await architectures.load(p.architecture);
  const path = join(folder, `${name}.gguf`);
  const values = new SeededRandom(3);
  const tensors = modelWeights(architecture, p)
    .filter(({ presence }) => presence !== 'optional')
    .map(({ gguf, shape }) => {
      const isVector = shape.length === 1;
      const scale = isVector ? 0.2 : Math.sqrt(3 / shape[1]!);
      const floats = Float32Array.from({ length: elementCount(shape) }, () => (isVector ? 1 : 0) + scale * (2 * values.next() - 1));
      const type = isVector ? ('f32' as const) : dtype;
      return { name: gguf, shape, dtype: type, data: encodeFloats(type, floats) };
    });
  await writeGguf(path, { metadata: [['general.architecture', { type: 'string', value: 'test' }]], tensors });
  const source = modelSource(architecture, p, openGguf(path).tensors);
  const device = await openCuda({});
  try {
    const [a, b] = [await modelOf(device, source, 32), await modelOf(await reference, source, 32)];
    const v = p.vocabularySize;
    const wants = true;
    const result = await compare(a, b, [
      [{ position: 0, tokens: some(1, v), blocks: [9], wants }],
      [{ position: 0, tokens: some(70, v), blocks: [1, 5, 3], wants }, { position: 1, tokens: some(1, v), blocks: [9], wants }],
      [{ position: 70, tokens: some(150, v), blocks: [1, 5, 3, 20, 21, 22, 23], wants }, { position: 2, tokens: some(2, v), blocks: [9], wants }, { position: 0, tokens: some(3, v), blocks: [10], wants: false }],
      [{ position: 220, tokens: some(1, v), blocks: [1, 5, 3, 20, 21, 22, 23], wants }, { position: 4, tokens: some(1, v), blocks: [9], wants }],
      [{ position: 221, tokens: some(1, v), blocks: [1, 5, 3, 20, 21, 22, 23], wants }],
      [{ position: 222, tokens: some(1, v), blocks: [1, 5, 3, 20, 21, 22, 23], wants }],
      Array.from({ length: 12 }, (_, k) => ({ position: 0, tokens: some(1, v), blocks: [30 + k], wants })),
      [{ position: 223, tokens: some(1, v), blocks: [1, 5, 3, 20, 21, 22, 23], wants }, ...Array.from({ length: 11 }, (_, k) => ({ position: 1, tokens: some(1, v), blocks: [30 + k], wants }))],
    ]);
    console.log(`model ${name} ${dtype}: ${result}`);
    a.close();
  } catch (thrown) {
    console.log(`model ${name} ${dtype}: FAILED ${thrown instanceof Error ? thrown.stack?.slice(0, 900) : thrown}`);
  }
}

const base: Hyperparameters = {
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
const wide = { ...base, heads: 4, kvHeads: 1, headDimension: 128, rope: { theta: 10000, dimensions: 128 } };
for (const activations of ['f32', 'bf16', 'f16']) await checkOps(activations);
await checkModel('llama64', base, 'bf16');
await checkModel('llama128', wide, 'bf16');
await checkModel('llama128', wide, 'f16');
await checkModel('llama64', base, 'f32');
await checkModel('window', { ...base, window: 40 }, 'bf16');
await checkModel('odd', { ...base, heads: 6, kvHeads: 3, headDimension: 48, rope: { theta: 10000, dimensions: 48 } }, 'bf16');
await checkModel('qwen2', { ...base, architecture: 'qwen2' }, 'bf16');
await checkModel('qwen3', { ...base, architecture: 'qwen3' }, 'bf16');
const { rope: _, ...learned } = base;
await checkModel('gpt2', { ...learned, architecture: 'gpt2', kvHeads: 8, heads: 8, width: 512, tiedEmbeddings: true }, 'bf16');

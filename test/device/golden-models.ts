import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/base/entry.ts';
import { f32ToBf16, f32ToF16 } from '../../src/base/half.ts';
import { decodeFloats } from '../../src/checkpoint/floats.ts';
import { openGguf } from '../../src/checkpoint/gguf-reader.ts';
import { type GgufTensor, writeGguf } from '../../src/checkpoint/gguf-writer.ts';
import { openHuggingFace } from '../../src/checkpoint/hugging-face.ts';
import { readTensor } from '../../src/checkpoint/tensor-file.ts';
import type { DeviceModelSource } from '../../src/device/device.ts';
import { dtypes } from '../../src/graph/dtype.ts';
import type { Hyperparameters } from '../../src/models/hyperparameters.ts';
import { architectureOfConfig, architectureOfGguf } from '../../src/models/registry.ts';
import { modelSource } from '../../src/models/source.ts';
import { transformRows } from '../../src/models/transforms.ts';
import { type ModelWeight, modelWeights } from '../../src/models/weights.ts';

/** Type of the matrices of a test engine; vectors are f32 always. */
export type MatrixType = 'f32' | 'f16' | 'bf16';

/** What `tools/goldens/make_hf_goldens.py` left of one model. */
export interface HfGolden {
  name: string;
  folder: string;
  vocabulary: number;
  prompts: number[][];
  /** [prompt length, vocabulary] of each prompt. */
  logits: Float32Array[];
}

const goldenFolder = join(packageRoot, 'test', 'goldens', 'hf');

/** Every golden model, in alphabetical order. */
export function hfGoldens(): HfGolden[] {
  const names = readdirSync(goldenFolder).filter((name) =>
    existsSync(join(goldenFolder, name, 'golden.json')),
  );
  return names.sort().map(readGolden);
}

function readGolden(name: string): HfGolden {
  const folder = join(goldenFolder, name);
  const { vocabulary, prompts } = JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as HfGolden;
  const bytes = readFileSync(join(folder, 'logits.f32'));
  let start = 0;
  const logits = prompts.map((prompt) => {
    const end = start + prompt.length * vocabulary * Float32Array.BYTES_PER_ELEMENT;
    const floats = decodeFloats('f32', bytes.subarray(start, end))!;
    start = end;
    return floats;
  });
  return { name, folder, vocabulary, prompts, logits };
}

/**
 * Writes a Hugging Face folder as a GGUF (without a vocabulary) and opens that as a device takes it.
 * @param change falsifies the hyperparameters, for tests that must notice
 */
export async function sourceOfHuggingFace(
  folder: string,
  ggufPath: string,
  matrixType: MatrixType = 'f32',
  change: (p: Hyperparameters) => Hyperparameters = (p) => p,
): Promise<DeviceModelSource> {
  const checkpoint = openHuggingFace(folder);
  const architecture = await architectureOfConfig(checkpoint.config);
  const p = change(architecture.hyperparameters(checkpoint.config));
  const tensors = modelWeights(architecture, p).flatMap((weight): GgufTensor[] => {
    const floats = weight.values ?? readWeight(checkpoint.tensors, weight);
    return floats ? [tensorOf(weight, floats, matrixType)] : [];
  });
  await writeGguf(ggufPath, { metadata: architecture.ggufMetadata(p), tensors });
  return sourceOfGguf(ggufPath);
}

/** A GGUF file as a device takes it: everything is read from its metadata. */
export async function sourceOfGguf(path: string): Promise<DeviceModelSource> {
  const gguf = openGguf(path);
  const architecture = await architectureOfGguf(gguf);
  return modelSource(architecture, architecture.hyperparametersFromGguf(gguf), gguf.tensors);
}

type Tensors = ReturnType<typeof openHuggingFace>['tensors'];

function readWeight(tensors: Tensors, weight: ModelWeight): Float32Array | undefined {
  const name = weight.hf.find((candidate) => tensors.has(candidate));
  if (name === undefined) return undefined;
  const tensor = tensors.get(name)!;
  const source = {
    shape: tensor.shape,
    elementBytes: dtypes[tensor.dtype].blockBytes,
    readRows: (rowStart: number, rowCount: number) => readTensor(tensor, rowStart, rowCount),
  };
  const rows = weight.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  return decodeFloats(tensor.dtype, transformRows(weight.transform, source, 0, rows));
}

function tensorOf({ gguf, shape }: ModelWeight, floats: Float32Array, matrixType: MatrixType): GgufTensor {
  const dtype = shape.length > 1 ? matrixType : 'f32';
  return { name: gguf, dtype, shape, data: encodeFloats(dtype, floats) };
}

/** Float32 values as stored. */
export function encodeFloats(dtype: MatrixType, floats: Float32Array): Uint8Array {
  if (dtype === 'f32') return new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
  const halves = Uint16Array.from(floats, dtype === 'f16' ? f32ToF16 : f32ToBf16);
  return new Uint8Array(halves.buffer);
}

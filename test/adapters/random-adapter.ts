import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SeededRandom } from '../../src/base/random.ts';
import { readFloats } from '../../src/checkpoint/floats.ts';
import { openHuggingFace } from '../../src/checkpoint/hugging-face.ts';
import { type SafetensorsTensor, writeSafetensors } from '../../src/checkpoint/safetensors-writer.ts';

/** A low-rank change of one matrix of a Hugging Face model. */
export interface RandomPart {
  /** Path of the layer. */
  module: string;
  /** [rank, inputs] and [outputs, rank], not scaled. */
  a: Float32Array;
  b: Float32Array;
  inputs: number;
  outputs: number;
}

export interface RandomAdapter {
  rank: number;
  alpha: number;
  parts: RandomPart[];
}

export interface RandomAdapterOptions {
  seed: number;
  rank: number;
  /** Which layers it changes. */
  modules: RegExp;
  /** GPT-2's matrices are stored [inputs, outputs]. */
  isTransposed?: boolean;
}

/** Random matrices, large enough to change what the model says. */
export function randomAdapter(folder: string, options: RandomAdapterOptions): RandomAdapter {
  const { seed, rank, modules, isTransposed = false } = options;
  const random = new SeededRandom(seed);
  const floats = (length: number, scale: number) =>
    Float32Array.from({ length }, () => Math.fround((random.next() * 2 - 1) * scale));
  const parts: RandomPart[] = [];
  for (const [name, { shape }] of openHuggingFace(folder).tensors) {
    const module = name.replace(/\.weight$/, '');
    if (shape.length !== 2 || module === name || !modules.test(module)) continue;
    const isConv = isTransposed && module !== 'lm_head';
    const [outputs, inputs] = (isConv ? [...shape].reverse() : shape) as [number, number];
    parts.push({ module, inputs, outputs, a: floats(rank * inputs, 0.3), b: floats(outputs * rank, 0.3) });
  }
  return { rank, alpha: 2 * rank, parts };
}

/** The adapter as PEFT saves it. */
export async function writePeft(folder: string, adapter: RandomAdapter): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const config = {
    peft_type: 'LORA',
    r: adapter.rank,
    lora_alpha: adapter.alpha,
    target_modules: [...new Set(adapter.parts.map(({ module }) => module.split('.').at(-1)))],
    bias: 'none',
  };
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(config));
  const tensors = adapter.parts.flatMap(({ module, inputs, outputs, a, b }) => [
    matrix(`base_model.model.${module}.lora_A.weight`, [adapter.rank, inputs], a),
    matrix(`base_model.model.${module}.lora_B.weight`, [outputs, adapter.rank], b),
  ]);
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), { tensors });
  return folder;
}

/** The model with the adapter added to its weights, as a Hugging Face folder. */
export async function writeMerged(
  folder: string,
  target: string,
  adapter: RandomAdapter,
  isTransposed = false,
): Promise<string> {
  cpSync(folder, target, { recursive: true });
  const tensors: SafetensorsTensor[] = [];
  for (const [name, tensor] of openHuggingFace(folder).tensors) {
    const values = readFloats(tensor);
    const module = name.replace(/\.weight$/, '');
    const part = module === name ? undefined : adapter.parts.find((one) => one.module === module);
    if (part) addPart(values, part, adapter, isTransposed && module !== 'lm_head');
    tensors.push(matrix(name, tensor.shape, values));
  }
  rmSync(join(target, 'model.safetensors'));
  await writeSafetensors(join(target, 'model.safetensors'), { tensors });
  return target;
}

function addPart(
  values: Float32Array,
  { a, b, inputs, outputs }: RandomPart,
  { rank, alpha }: RandomAdapter,
  isTransposed: boolean,
): void {
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      let sum = 0;
      for (let r = 0; r < rank; r++) sum += (b[o * rank + r] as number) * (a[r * inputs + i] as number);
      const at = isTransposed ? i * outputs + o : o * inputs + i;
      values[at] = (values[at] as number) + (alpha / rank) * sum;
    }
  }
}

function matrix(name: string, shape: readonly number[], values: Float32Array): SafetensorsTensor {
  return {
    name,
    dtype: 'f32',
    shape,
    data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  };
}

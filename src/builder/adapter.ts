import { createHash } from 'node:crypto';
import { hashInTurns } from '../base/hash-in-turns.ts';
import { openAdapter } from '../checkpoint/adapter.ts';
import { CheckpointError } from '../checkpoint/errors.ts';
import { decodeFloats } from '../checkpoint/floats.ts';
import type { LoraNames, LoraTarget } from '../checkpoint/lora.ts';
import { readTensorAsync, type StoredTensor } from '../checkpoint/tensor-file.ts';
import type { AdapterPart, AdapterTensors } from '../device/adapters.ts';
import type { ModelLinear } from '../models/linears.ts';
import { permutedRow } from '../models/transforms.ts';

/**
 * Reads an adapter and puts it into the engine's order. Without `linears` (a model without a network) it is taken as it says.
 * @throws CheckpointError `LORA_*` naming the module, its shapes and its rank
 */
export async function loadAdapter(
  path: string,
  linears: readonly ModelLinear[] | undefined,
): Promise<AdapterTensors> {
  const adapter = openAdapter(path, linears);
  const find = linears && finder(adapter.names, linears);
  const parts: AdapterPart[] = [];
  for (const target of adapter.targets.values()) {
    const linear = find ? find(path, target.module) : undefined;
    parts.push(await readPart(path, target, linear, adapter.names));
  }
  parts.sort((a, b) => (a.name < b.name ? -1 : 1));
  return finished(parts);
}

async function finished(parts: readonly AdapterPart[]): Promise<AdapterTensors> {
  const hash = createHash('sha256');
  let byteLength = 0;
  for (const part of parts) {
    byteLength += part.a.byteLength + part.b.byteLength;
    hash.update(`${part.name}\n${part.rank} ${part.inputs} ${part.outputs}\n`);
    await hashInTurns(hash, part.a);
    await hashInTurns(hash, part.b);
  }
  const rank = parts.reduce((max, part) => Math.max(max, part.rank), 0);
  return { digest: hash.digest('hex'), rank, parts, byteLength };
}

type FindLinear = (path: string, module: string) => ModelLinear;

function finder(names: LoraNames, linears: readonly ModelLinear[]): FindLinear {
  const byModule = new Map<string, ModelLinear>();
  for (const linear of linears) {
    const own = names === 'gguf' ? [linear.gguf] : names === 'engine' ? [linear.name] : linear.hf;
    for (const module of own) byModule.set(module, linear);
  }
  return (path, module) => {
    const linear = byModule.get(module);
    if (linear) return linear;
    const kinds = [...new Set([...byModule.keys()].map((known) => known.replace(/\.\d+\./, '.N.')))];
    const problem = `${path}: the model has no linear layer '${module.slice(0, 200)}'`;
    throw new CheckpointError(
      'LORA_TENSOR_INVALID',
      `${problem}; it has ${kinds.join(', ')}: the adapter is of another model`,
    );
  };
}

async function readPart(
  path: string,
  { module, rank, scale, a, b }: LoraTarget,
  linear: ModelLinear | undefined,
  names: LoraNames,
): Promise<AdapterPart> {
  const inputs = a.shape[1] ?? 0;
  const outputs = b.shape[0] ?? 0;
  if (linear && (linear.inputs !== inputs || linear.outputs !== outputs)) {
    const problem = `${path}: ${module} of rank ${rank} has A of shape [${a.shape}] and B of shape [${b.shape}]`;
    const expected = `the model's is [${linear.outputs}, ${linear.inputs}], which wants [${rank}, ${linear.inputs}] and [${linear.outputs}, ${rank}]`;
    throw new CheckpointError(
      'LORA_TENSOR_INVALID',
      `${problem}; ${expected}: the adapter is of another model`,
    );
  }
  const low = await readMatrix(path, module, a);
  const high = await readMatrix(path, module, b);
  for (let i = 0; i < high.length; i++) high[i] = (high[i] as number) * scale;
  // llama.cpp's converter permuted the rows already.
  const isPermuted = linear?.transform.kind === 'ropePermutation' && names !== 'gguf';
  const rows =
    isPermuted && linear.transform.kind === 'ropePermutation'
      ? permuted(high, outputs, rank, linear.transform.heads)
      : high;
  return { name: linear?.name ?? module, rank, inputs, outputs, a: low, b: rows };
}

async function readMatrix(path: string, module: string, tensor: StoredTensor): Promise<Float32Array> {
  const values = decodeFloats(tensor.dtype, await readTensorAsync(tensor));
  if (!values) {
    const problem = `${path}: ${module} is stored as ${tensor.dtype}, where plain floats are needed`;
    throw new CheckpointError('TENSOR_TYPE_UNSUPPORTED', `${problem}; save the adapter as f32, f16 or bf16`);
  }
  for (const value of values) {
    if (Number.isFinite(value)) continue;
    throw new CheckpointError(
      'LORA_TENSOR_INVALID',
      `${path}: ${module} holds ${value}; its training went wrong, or the file is damaged`,
    );
  }
  return values;
}

/** Rows of q and k as the engine has them: rotary halves become neighbours. */
function permuted(b: Float32Array, outputs: number, rank: number, heads: number): Float32Array {
  const result = new Float32Array(b.length);
  for (let row = 0; row < outputs; row++) {
    const from = permutedRow(row, outputs, heads) * rank;
    result.set(b.subarray(from, from + rank), row * rank);
  }
  return result;
}

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { definite } from '../base/errors.ts';
import { CheckpointError } from './errors.ts';
import type { LoraAdapter, LoraTarget } from './lora.ts';
import { openNpy } from './npy.ts';
import { readTensor, type StoredTensor } from './tensor-file.ts';

/** The files of TensorRT-LLM's `hf_lora_convert.py`; older converters call the config `keys`. */
export const loraNpyNames = {
  weights: 'model.lora_weights.npy',
  config: 'model.lora_config.npy',
  keys: 'model.lora_keys.npy',
} as const;

/** A logical linear that the format's modules can mean. */
export interface NpyLinear {
  name: string;
  inputs: number;
  outputs: number;
}

/** TensorRT-LLM's module ids, and what the linears of a layer are called here: the first that the model has, or all of a fused one. */
const modules: readonly { name: string; alternatives: readonly (readonly string[])[] }[] = [
  { name: 'attn_qkv', alternatives: [['attention.qkv'], ['attention.q', 'attention.k', 'attention.v']] },
  { name: 'attn_q', alternatives: [['attention.q']] },
  { name: 'attn_k', alternatives: [['attention.k']] },
  { name: 'attn_v', alternatives: [['attention.v']] },
  { name: 'attn_dense', alternatives: [['attention.o']] },
  // The first matrix of a feed-forward: the gate of a gated one.
  { name: 'mlp_h_to_4h', alternatives: [['feedForward.gate'], ['feedForward.up']] },
  { name: 'mlp_4h_to_h', alternatives: [['feedForward.down']] },
  { name: 'mlp_gate', alternatives: [['feedForward.up']] },
];

/** Further modules of TensorRT-LLM, by id from 8 on: no model here has them. */
const otherModules = [
  'cross_attn_qkv',
  'cross_attn_q',
  'cross_attn_k',
  'cross_attn_v',
  'cross_attn_dense',
  'moe_h_to_4h',
  'moe_4h_to_h',
  'moe_gate',
  'moe_router',
  'mlp_router',
  'mlp_gate_up',
  'shared_expert_h_to_4h',
  'shared_expert_4h_to_h',
  'shared_expert_gate',
];

/** Whether a folder holds an adapter in this format. */
export function isLoraNpy(folder: string): boolean {
  return existsSync(join(folder, loraNpyNames.weights));
}

/**
 * Opens a folder with `model.lora_weights.npy` [1, rows, elements] and `model.lora_config.npy` [1, rows, 3 or 4] (module, layer, rank and, of
 * DoRA, whether it is). A row holds A [rank, inputs] and then B [outputs, rank], scaled already.
 * @param linears of the model: the format says no shapes
 * @throws CheckpointError with TensorRT-LLM's texts where it has them
 */
export function openLoraNpy(folder: string, linears: readonly NpyLinear[] | undefined): LoraAdapter {
  if (!linears)
    throw lora(
      folder,
      'an adapter of this format says no shapes; this model has no linears to take them from',
    );
  const weights = openNpy(join(folder, loraNpyNames.weights));
  const configPath = [loraNpyNames.config, loraNpyNames.keys]
    .map((name) => join(folder, name))
    .find((path) => existsSync(path));
  if (!configPath) throw lora(folder, `it has ${loraNpyNames.weights} and no ${loraNpyNames.config}`);
  const config = openNpy(configPath);
  const rows = rowsOf(config);
  const columns = config.shape.at(-1) ?? 0;
  if (config.dtype !== 'i32' || (columns !== 3 && columns !== 4) || rowsOf(weights) !== rows) {
    const shapes = `[${weights.shape}] and [${config.shape}]`;
    throw lora(
      folder,
      `lora_weights and lora_config have shapes ${shapes}; rows of 3 or 4 are expected, one each`,
    );
  }
  const bytes = readTensor(config);
  const byName = new Map(linears.map((linear) => [linear.name, linear]));
  const layers = layerCount(linears);
  const targets = new Map<string, LoraTarget>();
  for (let row = 0; row < rows; row++) {
    const at = (column: number) => bytes.readInt32LE((row * columns + column) * 4);
    const entry = { module: at(0), layer: at(1), rank: at(2), isDora: columns === 4 && at(3) !== 0 };
    for (const target of targetsOf(folder, weights, row, entry, byName, layers)) {
      if (targets.has(target.module)) throw lora(folder, `it changes ${target.module} twice`);
      targets.set(target.module, target);
    }
  }
  return { path: folder, names: 'engine', targets };
}

interface ConfigRow {
  module: number;
  layer: number;
  rank: number;
  isDora: boolean;
}

function targetsOf(
  folder: string,
  weights: StoredTensor,
  row: number,
  { module, layer, rank, isDora }: ConfigRow,
  linears: ReadonlyMap<string, NpyLinear>,
  layers: number,
): LoraTarget[] {
  const known = modules[module];
  const name = known?.name ?? otherModules[module - modules.length] ?? `with id ${module}`;
  if (isDora) throw lora(folder, `module ${name} of layer ${layer} uses DoRA`, 'LORA_UNSUPPORTED');
  if (layer < 0 || layer >= layers) {
    throw lora(folder, `Expected layerId to be in the range [0, ${layers}), not ${layer} of module ${name}`);
  }
  const parts = known?.alternatives
    .map((names) => names.map((one) => linears.get(`layers.${layer}.${one}`)))
    .find((all) => all.every((one) => one !== undefined));
  if (!parts) throw lora(folder, `lora module ${name} not enabled for this model`);
  const inputs = parts[0]?.inputs ?? 0;
  const outputs = parts.reduce((sum, part) => sum + (part?.outputs ?? 0), 0);
  const elements = weights.shape.at(-1) ?? 0;
  if (rank < 1 || rank * (inputs + outputs) > elements) {
    const needs = `${rank} × (${inputs} + ${outputs})`;
    throw lora(
      folder,
      `lora_weights has to few values for ${name}: ${elements} in a row, and rank ${rank} takes ${needs}`,
    );
  }
  const elementBytes = weights.byteLength / Math.max(1, rowsOf(weights) * elements);
  const slice = (start: number, shape: readonly number[]): StoredTensor => ({
    ...weights,
    shape,
    offset: weights.offset + (row * elements + start) * elementBytes,
    byteLength: shape.reduce((product, size) => product * size, elementBytes),
  });
  const a = slice(0, [rank, inputs]);
  let start = rank * inputs;
  return parts.map((part) => {
    const linear = definite(part, 'a linear');
    const b = slice(start, [linear.outputs, rank]);
    start += linear.outputs * rank;
    return { module: linear.name, rank, scale: 1, a, b };
  });
}

function rowsOf({ shape }: StoredTensor): number {
  return shape.slice(0, -1).reduce((product, size) => product * size, 1);
}

function layerCount(linears: readonly NpyLinear[]): number {
  const numbers = linears.map(({ name }) => Number(/^layers\.(\d+)\./.exec(name)?.[1] ?? -1));
  return Math.max(-1, ...numbers) + 1;
}

function lora(
  folder: string,
  problem: string,
  code: 'LORA_TENSOR_INVALID' | 'LORA_UNSUPPORTED' = 'LORA_TENSOR_INVALID',
): CheckpointError {
  return new CheckpointError(
    code,
    `${problem} (${folder}); convert an adapter of this model with hf_lora_convert.py`,
  );
}

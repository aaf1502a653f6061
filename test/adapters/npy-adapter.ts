import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readFloats } from '../../src/checkpoint/floats.ts';
import { openLora } from '../../src/checkpoint/lora.ts';
import type { RandomAdapter } from './random-adapter.ts';

/** As numpy writes it: version 1, its header filled up to 64 bytes. */
function npy(description: string, shape: readonly number[], data: Uint8Array): Buffer {
  const header = `{'descr': '${description}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`;
  const padded = `${header.padEnd(64 * Math.ceil((header.length + 11) / 64) - 11)}\n`;
  const length = Buffer.alloc(2);
  length.writeUInt16LE(padded.length);
  return Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), length, Buffer.from(padded), data]);
}

const moduleIds: Record<string, number> = {
  q_proj: 1,
  k_proj: 2,
  v_proj: 3,
  o_proj: 4,
  gate_proj: 5,
  down_proj: 6,
  up_proj: 7,
};

const layerOf = (module: string): number => Number(/layers\.(\d+)/.exec(module)?.[1]);

/** Half floats; what is too small for a normal one is 0. */
function halves(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(bits, (one) => {
    const sign = (one >>> 16) & 0x8000;
    // Rounded to 10 bits of fraction, its exponent's bias changed from 127 to 15.
    const magnitude = (((one & 0x7fffffff) + 0x1000) >>> 13) - ((127 - 15) << 10);
    return magnitude < 0x400 ? sign : sign | magnitude;
  });
}

/**
 * The adapter as TensorRT-LLM's `hf_lora_convert.py` writes it, in float32 unless `isHalf`.
 * @param change what is to be wrong with its config's rows
 */
export function writeNpyAdapter(
  folder: string,
  { rank, alpha, parts }: RandomAdapter,
  change: (rows: number[][]) => void = () => {},
  isHalf = false,
): string {
  const elements = Math.max(...parts.map(({ inputs, outputs }) => rank * (inputs + outputs)));
  const weights = new Float32Array(parts.length * elements);
  const rows = parts.map(({ module, a, b }, row) => {
    weights.set(a, row * elements);
    weights.set(
      b.map((value) => value * (alpha / rank)),
      row * elements + a.length,
    );
    return [moduleIds[module.split('.').at(-1)!]!, layerOf(module), rank];
  });
  change(rows);
  mkdirSync(folder, { recursive: true });
  const bytes = new Uint8Array(isHalf ? halves(weights).buffer : weights.buffer);
  const type = isHalf ? '<f2' : '<f4';
  writeFileSync(join(folder, 'model.lora_weights.npy'), npy(type, [1, parts.length, elements], bytes));
  const config = new Uint8Array(Int32Array.from(rows.flat()).buffer);
  writeFileSync(join(folder, 'model.lora_config.npy'), npy('<i4', [1, rows.length, rows[0]!.length], config));
  return folder;
}

/** A PEFT folder as the matrices that {@link writeNpyAdapter} takes; all of one rank. */
export function peftMatrices(folder: string): RandomAdapter {
  const parts = [...openLora(folder).targets.values()].map(({ module, rank, scale, a, b }) => ({
    ...{ module, rank, scale, a: readFloats(a), b: readFloats(b) },
    ...{ inputs: a.shape[1]!, outputs: b.shape[0]! },
  }));
  const [{ rank, scale }] = parts as [(typeof parts)[0]];
  return { rank, alpha: scale * rank, parts };
}

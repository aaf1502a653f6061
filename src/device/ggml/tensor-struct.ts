import koffi from 'koffi';
import { DeviceError } from '../errors.ts';
import type { Ggml } from './ffi.ts';
import type { Tensor } from './handles.ts';

/**
 * Byte offsets of `struct ggml_tensor`'s members on 64-bit targets (`ggml.h`). Nereid moves views between steps by writing these members, so
 * that a recorded graph serves any slot and any KV length; {@link checkTensorLayout} proves them against the loaded library.
 */
export const tensorOffsets = {
  type: 0,
  buffer: 8,
  /** Elements of each dimension, innermost first: 4 × i64. */
  ne: 16,
  /** Bytes from one element to the next in each dimension: 4 × u64. */
  nb: 48,
  flags: 148,
  sources: 152,
  viewSource: 232,
  viewOffset: 240,
  data: 248,
  name: 256,
} as const;

export const sourcesMax = 10;

/** Reads one pointer or size member. */
export function readMember(tensor: Tensor, offset: number): bigint {
  return BigInt(koffi.decode(tensor, offset, 'uint64_t') as number | bigint);
}

/** Writes one pointer or size member. Not for the step loop: see `executable.ts`. */
export function setMember(tensor: Tensor, offset: number, value: bigint | number): void {
  koffi.encode(tensor, offset, 'uint64_t', value);
}

/** Elements of the tensor's four dimensions, innermost first. */
export function dimensionsOf(tensor: Tensor): [number, number, number, number] {
  const at = (index: number) => Number(readMember(tensor, tensorOffsets.ne + index * 8));
  return [at(0), at(1), at(2), at(3)];
}

/** Bytes between neighbours in the tensor's four dimensions, innermost first. */
export function stridesOf(tensor: Tensor): [number, number, number, number] {
  const at = (index: number) => Number(readMember(tensor, tensorOffsets.nb + index * 8));
  return [at(0), at(1), at(2), at(3)];
}

/**
 * Proves the offsets on a tensor whose members are known.
 * @throws DeviceError DEVICE_LIBRARY_MISMATCH
 */
export function checkTensorLayout(ggml: Ggml, path: string): void {
  const context = ggml.ggml_init({
    mem_size: 16 * ggml.ggml_tensor_overhead(),
    mem_buffer: null,
    no_alloc: true,
  });
  try {
    const source = ggml.ggml_set_name(ggml.ggml_new_tensor_4d(context, 1, 7, 5, 3, 2), 'layout');
    const view = ggml.ggml_view_4d(context, source, 7, 2, 1, 1, 14, 70, 210, 28);
    const added = ggml.ggml_add(context, view, view);
    ggml.ggml_set_input(source);
    const strides = [2, 14, 70, 210];
    const facts: [string, boolean][] = [
      ['type', koffi.decode(source, tensorOffsets.type, 'int') === 1],
      ['ne', dimensionsOf(source).join() === '7,5,3,2'],
      ['nb', stridesOf(source).join() === strides.join()],
      ['flags', koffi.decode(source, tensorOffsets.flags, 'int') === 1],
      ['src', readMember(added, tensorOffsets.sources + 8) === view],
      ['view_src', readMember(view, tensorOffsets.viewSource) === source],
      ['view_offs', readMember(view, tensorOffsets.viewOffset) === 28n],
      ['data', readMember(source, tensorOffsets.data) === 0n],
      ['name', koffi.decode.string(source + BigInt(tensorOffsets.name)) === 'layout'],
    ];
    const wrong = facts.filter(([, holds]) => !holds).map(([member]) => member);
    if (wrong.length === 0) return;
    const problem = `struct ggml_tensor lies differently than Nereid expects (${wrong.join(', ')})`;
    throw new DeviceError(
      'DEVICE_LIBRARY_MISMATCH',
      `${path}: ${problem}; install the pinned @node-llama-cpp release`,
    );
  } finally {
    ggml.ggml_free(context);
  }
}

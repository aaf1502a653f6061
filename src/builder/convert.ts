import { assert } from '../base/errors.ts';
import type { Quantizer } from '../device/ggml/quantize.ts';
import { type DType, isQuantized, rowBytes } from '../graph/dtype.ts';
import { BuilderError } from './errors.ts';
import type { Reporter } from './reporter.ts';

/** A weight on its way into an engine: already under its GGUF name and in GGUF's layout, still in the checkpoint's type. */
export interface ConvertibleTensor {
  name: string;
  /** Row-major, outermost first. */
  shape: readonly number[];
  dtype: DType;
  /** Stored bytes of whole rows, in order; a chunk is at most about 16 MB, or one row. */
  chunks(): Iterable<Uint8Array>;
}

/** What a conversion works with: ggml's code, a listener, and a way to stop it. */
export interface ConvertContext {
  quantizer: Quantizer;
  reporter: Reporter;
  signal?: AbortSignal;
}

/**
 * A tensor's bytes in the type it is to have, chunk by chunk: never more than a chunk of it is in memory.
 * @throws BuilderError QUANTIZE_UNSUPPORTED for values that no quantized type can hold
 */
export async function* convertTensor(
  tensor: ConvertibleTensor,
  dtype: DType,
  { quantizer, reporter, signal }: ConvertContext,
): AsyncGenerator<Uint8Array, void> {
  const rowElements = tensor.shape.at(-1) ?? 1;
  const stored = rowBytes(tensor.dtype, rowElements);
  for (const bytes of tensor.chunks()) {
    signal?.throwIfAborted();
    assert(bytes.length % stored === 0, `${tensor.name} comes in whole rows`);
    if (tensor.dtype === dtype) yield bytes;
    else {
      const floats = await quantizer.decode(tensor.dtype, bytes);
      if (isQuantized(dtype)) checkFinite(tensor.name, floats, dtype);
      yield await quantizer.encode(dtype, floats, rowElements);
    }
    reporter.advance(bytes.length);
  }
}

/** One NaN or infinity would spoil its whole block, or abort inside ggml. */
function checkFinite(name: string, floats: Float32Array, dtype: DType): void {
  for (let i = 0; i < floats.length; i++) {
    if (Number.isFinite(floats[i])) continue;
    const problem = `tensor '${name}' holds ${floats[i]}, which ${dtype} cannot store`;
    const fix = `the checkpoint is damaged, or this tensor needs an override (tensors: [{ pattern: '${name}', dtype: f32 }])`;
    throw new BuilderError('QUANTIZE_UNSUPPORTED', `${problem}; ${fix}`);
  }
}

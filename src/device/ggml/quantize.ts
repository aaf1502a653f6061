import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { assert, messageOf } from '../../base/errors.ts';
import { type DType, dtypes, rowBytes } from '../../graph/dtype.ts';
import { DeviceError } from '../errors.ts';

/** Conversions between float32 and every storage type, by ggml's own code, so that the bytes are those that its kernels expect. */
export interface Quantizer {
  /**
   * Stores float32 rows as `dtype`.
   * @param rows whole rows of `rowElements`, in order
   * @throws DTypeError when rows are no whole number of blocks
   */
  encode(dtype: DType, rows: Float32Array, rowElements: number): Promise<Uint8Array>;
  /** The float32 values of stored rows. @throws DeviceError for types that ggml only computes with (q8_1, q8_k) and integers */
  decode(dtype: DType, bytes: Uint8Array): Promise<Float32Array>;
}

/** Slices smaller than this are not worth a thread's start. */
const sliceElementsMin = 64 * 1024;

type Library = ReturnType<typeof koffi.load>;
type AsyncFunction = (...values: unknown[]) => Promise<unknown>;

/**
 * Binds ggml's conversions from `libggml-base` in a folder. No back end is started: this is a fraction of what loading a device takes.
 * @param threads slices that are converted at once, on Node's thread pool, so the event loop stays free
 * @throws DeviceError DEVICE_LIBRARY_MISSING
 */
export function openQuantizer(folder: string, threads: number): Quantizer {
  const library = openBase(folder);
  const encodeChunk = asynchronous(
    library.func('ggml_quantize_chunk', 'size_t', [
      'int',
      'void *',
      'void *',
      'int64_t',
      'int64_t',
      'int64_t',
      'void *',
    ]),
  );
  const decoders = new Map<DType, AsyncFunction>();
  const decoderOf = (dtype: DType) => {
    const known = decoders.get(dtype);
    if (known) return known;
    const bound = bindDecoder(library, dtype);
    decoders.set(dtype, bound);
    return bound;
  };
  return {
    encode: (dtype, rows, rowElements) => encode(encodeChunk, threads, dtype, rows, rowElements),
    decode: (dtype, bytes) => decode(decoderOf, threads, dtype, bytes),
  };
}

async function encode(
  encodeChunk: AsyncFunction,
  threads: number,
  dtype: DType,
  rows: Float32Array,
  rowElements: number,
): Promise<Uint8Array> {
  const stride = rowBytes(dtype, rowElements);
  assert(rows.length % rowElements === 0, 'whole rows are encoded');
  const count = rows.length / rowElements;
  const target = new Uint8Array(count * stride);
  await slices(count, rowElements, threads, async (start, end) => {
    const into = target.subarray(start * stride, end * stride);
    const from = rows.subarray(start * rowElements, end * rowElements);
    const written = await encodeChunk(dtypes[dtype].ggmlId, from, into, 0, end - start, rowElements, null);
    assert(
      Number(written) === into.length,
      `ggml wrote ${String(written)} of ${into.length} bytes of ${dtype}`,
    );
  });
  return target;
}

async function decode(
  decoderOf: (dtype: DType) => AsyncFunction,
  threads: number,
  dtype: DType,
  bytes: Uint8Array,
): Promise<Float32Array> {
  const { blockBytes, blockElements } = dtypes[dtype];
  assert(bytes.length % blockBytes === 0, 'whole blocks are decoded');
  const blocks = bytes.length / blockBytes;
  if (dtype === 'f32' && bytes.byteOffset % 4 === 0)
    return new Float32Array(bytes.buffer, bytes.byteOffset, blocks);
  const target = new Float32Array(blocks * blockElements);
  if (dtype === 'f32') {
    new Uint8Array(target.buffer).set(bytes);
    return target;
  }
  if (dtype === 'f64') {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let i = 0; i < blocks; i++) target[i] = view.getFloat64(i * 8, true);
    return target;
  }
  const decoder = decoderOf(dtype);
  await slices(blocks, blockElements, threads, async (start, end) => {
    const from = bytes.subarray(start * blockBytes, end * blockBytes);
    const into = target.subarray(start * blockElements, end * blockElements);
    await decoder(from, into, into.length);
  });
  return target;
}

/** Cuts `[0, count)` into one range a thread and waits for all. */
async function slices(
  count: number,
  unitElements: number,
  threads: number,
  convert: (start: number, end: number) => Promise<void>,
): Promise<void> {
  const parts = Math.max(1, Math.min(threads, Math.floor((count * unitElements) / sliceElementsMin), count));
  const bounds = Array.from({ length: parts + 1 }, (_, part) => Math.floor((part * count) / parts));
  await Promise.all(bounds.slice(1).map((end, part) => convert(bounds[part] ?? 0, end)));
}

function bindDecoder(library: Library, dtype: DType): AsyncFunction {
  const names: Partial<Record<DType, string>> = {
    f16: 'ggml_fp16_to_fp32_row',
    bf16: 'ggml_bf16_to_fp32_row',
  };
  const name = names[dtype] ?? `dequantize_row_${dtype.replace(/_k$/, '_K')}`;
  try {
    return asynchronous(library.func(name, 'void', ['void *', 'void *', 'int64_t']));
  } catch (cause) {
    const problem = `this ggml cannot convert ${dtype} to floats`;
    throw new DeviceError(
      'DEVICE_DTYPE_UNSUPPORTED',
      `${problem}; use an f32, f16 or bf16 version of the model`,
      {
        cause,
      },
    );
  }
}

/** Runs a C function on Node's thread pool. The arguments live until it returns, since the caller's frame holds them. */
function asynchronous(call: ReturnType<Library['func']>): AsyncFunction {
  return (...values) =>
    new Promise((resolve, reject) => {
      call.async(...values, (error: Error | null, result: unknown) =>
        error ? reject(error) : resolve(result),
      );
    });
}

/** Libraries by path, kept until the process ends: ggml aborts when it is unloaded and then loaded again. */
const libraries = new Map<string, Library>();

function openBase(folder: string): Library {
  const file =
    existsSync(folder) && readdirSync(folder).find((name) => /^(lib)?ggml-base\..*(so|dylib|dll)/.test(name));
  if (!file) {
    throw new DeviceError(
      'DEVICE_LIBRARY_MISSING',
      `no libggml-base in ${folder}: reinstall the ggml package`,
    );
  }
  const path = join(folder, file);
  const open = libraries.get(path) ?? load(path);
  libraries.set(path, open);
  return open;
}

function load(path: string): Library {
  try {
    return koffi.load(path);
  } catch (cause) {
    throw new DeviceError('DEVICE_LIBRARY_MISSING', `cannot load ${path}: ${messageOf(cause)}`, { cause });
  }
}

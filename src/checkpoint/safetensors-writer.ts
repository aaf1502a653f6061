import { type DType, isDType } from '../graph/dtype.ts';
import { CheckpointError } from './errors.ts';
import { OutputFile, type TensorData, writeTensorData } from './output-file.ts';
import { safetensorsLimits } from './safetensors.ts';
import {
  isSafetensorsType,
  type SafetensorsType,
  safetensorsTypeOf,
  safetensorsTypes,
} from './safetensors-types.ts';
import { elementCount } from './tensor-file.ts';

/** A tensor to write; its data is asked for when its turn comes. */
export interface SafetensorsTensor {
  name: string;
  /** Nereid's name ('bf16') or the format's ('F8_E4M3'). */
  dtype: DType | SafetensorsType;
  /** Row-major, outermost first. */
  shape: readonly number[];
  data: TensorData;
}

/** All that {@link writeSafetensors} writes. */
export interface SafetensorsContents {
  tensors: readonly SafetensorsTensor[];
  metadata?: Readonly<Record<string, string>>;
  /** Called with every run of bytes as it is written, in file order: for hashes and progress. */
  onBytes?: (bytes: Uint8Array) => void;
}

interface PlacedTensor {
  tensor: SafetensorsTensor;
  type: SafetensorsType;
  byteLength: number;
}

/**
 * Writes a safetensors file: widest types first, then by name, as the format's own library does, so that every tensor is aligned to
 * its element and the same contents give the same bytes. An incomplete file is removed when anything fails.
 * @returns the file's size in bytes
 * @throws CheckpointError for types the format lacks, names twice, and data of another length than the shape says
 */
export async function writeSafetensors(path: string, contents: SafetensorsContents): Promise<number> {
  const placed = place(contents.tensors);
  const header = encodeHeader(placed, contents.metadata);
  const output = await OutputFile.create(path, contents.onBytes);
  try {
    await output.write(header);
    for (const { tensor, byteLength } of placed) {
      await writeTensorData(output, tensor.name, byteLength, tensor.data);
    }
    await output.close();
  } catch (thrown) {
    await output.discard();
    throw thrown;
  }
  return output.position;
}

function refuse(problem: string): CheckpointError {
  return new CheckpointError('CHECKPOINT_WRITE_INVALID', problem);
}

function place(tensors: readonly SafetensorsTensor[]): PlacedTensor[] {
  const names = new Set<string>();
  const placed = tensors.map((tensor) => {
    const { name, dtype, shape } = tensor;
    if (names.has(name) || name === '__metadata__')
      throw refuse(`tensor name '${name}' is given twice or reserved`);
    names.add(name);
    const type = typeOf(dtype);
    if (!type) throw refuse(`tensor '${name}': safetensors cannot store ${dtype}; use GGUF, or a plain type`);
    const bits = elementCount(shape) * safetensorsTypes[type].bits;
    if (!Number.isSafeInteger(bits) || bits < 0 || bits % 8 !== 0)
      throw refuse(`tensor '${name}' of shape [${shape}] cannot be stored as ${type}`);
    return { tensor, type, byteLength: bits / 8 };
  });
  return placed.sort(
    (a, b) =>
      safetensorsTypes[b.type].bits - safetensorsTypes[a.type].bits || compare(a.tensor.name, b.tensor.name),
  );
}

/** By code unit: `localeCompare` would make the bytes depend on the machine's language. */
function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function typeOf(dtype: DType | SafetensorsType): SafetensorsType | undefined {
  if (isDType(dtype)) return safetensorsTypeOf(dtype);
  return isSafetensorsType(dtype) ? dtype : undefined;
}

function encodeHeader(
  placed: readonly PlacedTensor[],
  metadata: Readonly<Record<string, string>> | undefined,
): Buffer {
  const entries: [string, unknown][] = metadata ? [['__metadata__', metadata]] : [];
  let start = 0;
  for (const { tensor, type, byteLength } of placed) {
    const end = start + byteLength;
    entries.push([tensor.name, { dtype: type, shape: tensor.shape, data_offsets: [start, end] }]);
    start = end;
  }
  // Not JSON.stringify of one object: it would move names that look like numbers to the front.
  const text = `{${entries.map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`).join(',')}}`;
  const unpadded = Buffer.from(text);
  const headerBytes = Math.ceil(unpadded.length / 8) * 8;
  if (headerBytes > safetensorsLimits.headerBytesMax)
    throw refuse(`a header of ${headerBytes} bytes is over the format's limit`);
  const bytes = Buffer.alloc(8 + headerBytes, 0x20);
  bytes.writeBigUInt64LE(BigInt(headerBytes), 0);
  unpadded.copy(bytes, 8);
  return bytes;
}

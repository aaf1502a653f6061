import { type DType, dtypes } from '../graph/dtype.ts';
import { CheckpointError } from './errors.ts';
import { encodeString, encodeU32, encodeU64, encodeValue } from './gguf-encode.ts';
import { alignmentBytesDefault, alignUp, ggmlNameBytesMax, ggufLimits, ggufMagic } from './gguf-limits.ts';
import type { GgufValue } from './gguf-values.ts';
import { OutputFile, type TensorData, writeTensorData } from './output-file.ts';
import { tensorBytes } from './tensor-file.ts';

type Entry = readonly [string, GgufValue];

const alignmentKey = 'general.alignment';

/** A tensor to write; its data is asked for when its turn comes. */
export interface GgufTensor {
  name: string;
  dtype: DType;
  /** Row-major, outermost first; at most four dimensions. */
  shape: readonly number[];
  data: TensorData;
}

/** All that {@link writeGguf} writes. */
export interface GgufContents {
  /** In the order in which they are written. */
  metadata: Iterable<Entry>;
  tensors: readonly GgufTensor[];
  /** Of tensor data; a power of two from 8. Default: `general.alignment` in the metadata, else 32. Written into the metadata. */
  alignmentBytes?: number;
  /** Called with every run of bytes as it is written, in file order: for hashes and progress. */
  onBytes?: (bytes: Uint8Array) => void;
}

/**
 * Writes a GGUF version 3 file. The same contents give the same bytes. An incomplete file is removed when anything fails; renaming
 * into place is the caller's.
 * @returns the file's size in bytes
 * @throws CheckpointError for names or shapes that ggml would not load, and data of another length than the shape says
 */
export async function writeGguf(path: string, contents: GgufContents): Promise<number> {
  const given = [...contents.metadata];
  const alignmentBytes = checkedAlignment(contents, given);
  const header = encodeHeader(withAlignment(given, alignmentBytes), contents.tensors, alignmentBytes);
  const output = await OutputFile.create(path, contents.onBytes);
  try {
    for (const part of header) await output.write(part);
    await output.padTo(alignmentBytes);
    for (const tensor of contents.tensors) {
      await writeTensorData(output, tensor.name, requiredBytes(tensor), tensor.data);
      await output.padTo(alignmentBytes);
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

function checkedAlignment(contents: GgufContents, entries: readonly Entry[]): number {
  const stated = entries.find(([key]) => key === alignmentKey)?.[1].value;
  const alignmentBytes = contents.alignmentBytes ?? stated ?? alignmentBytesDefault;
  if (stated !== undefined && stated !== alignmentBytes) {
    throw refuse(
      `alignmentBytes is ${alignmentBytes}, but the metadata's ${alignmentKey} is ${stated}; leave one out`,
    );
  }
  const fits = typeof alignmentBytes === 'number' && alignmentBytes >= 8;
  if (fits && alignmentBytes <= ggufLimits.alignmentBytesMax && Number.isInteger(Math.log2(alignmentBytes))) {
    return alignmentBytes;
  }
  throw refuse(
    `alignment ${String(alignmentBytes)} is no power of two from 8 to ${ggufLimits.alignmentBytesMax}`,
  );
}

function requiredBytes({ name, dtype, shape }: GgufTensor): number {
  const bytes = tensorBytes(dtype, shape);
  if (bytes !== undefined && shape.every((size) => Number.isSafeInteger(size) && size >= 0)) return bytes;
  const block = dtypes[dtype].blockElements;
  throw refuse(
    `tensor '${name}' of shape [${shape}] cannot be stored as ${dtype}: rows must be multiples of ${block}`,
  );
}

function encodeHeader(
  entries: readonly Entry[],
  tensors: readonly GgufTensor[],
  alignmentBytes: number,
): Uint8Array[] {
  checkNames(entries, tensors);
  const parts = [
    Buffer.from(ggufMagic, 'latin1'),
    encodeU32(3),
    encodeU64(tensors.length),
    encodeU64(entries.length),
  ];
  for (const [key, value] of entries) parts.push(encodeString(key), encodeValue(key, value));
  let offset = 0;
  for (const tensor of tensors) {
    const byteLength = requiredBytes(tensor);
    const sizes = [...tensor.shape].reverse();
    parts.push(encodeString(tensor.name), encodeU32(sizes.length), ...sizes.map(encodeU64));
    parts.push(encodeU32(dtypes[tensor.dtype].ggmlId), encodeU64(offset));
    offset += alignUp(byteLength, alignmentBytes);
  }
  return parts;
}

/** Says the alignment in front where it is not the default and nobody has said it. */
function withAlignment(entries: readonly Entry[], alignmentBytes: number): readonly Entry[] {
  const said = alignmentBytes === alignmentBytesDefault || entries.some(([key]) => key === alignmentKey);
  return said ? entries : [[alignmentKey, { type: 'u32', value: alignmentBytes }], ...entries];
}

function checkNames(entries: readonly Entry[], tensors: readonly GgufTensor[]): void {
  const keys = new Set<string>();
  for (const [key] of entries) {
    if (keys.has(key)) throw refuse(`metadata key '${key}' is given twice`);
    if (key === '' || Buffer.byteLength(key) > ggufLimits.keyBytesMax)
      throw refuse(`metadata key '${key.slice(0, 80)}' is empty or too long`);
    keys.add(key);
  }
  const names = new Set<string>();
  for (const { name, shape } of tensors) {
    if (names.has(name)) throw refuse(`tensor '${name}' is given twice`);
    names.add(name);
    if (Buffer.byteLength(name) > ggmlNameBytesMax) {
      throw refuse(`tensor name '${name}' has more than the ${ggmlNameBytesMax} bytes that ggml loads`);
    }
    if (shape.length > ggufLimits.dimensionsMax) {
      throw refuse(`tensor '${name}' has ${shape.length} dimensions; GGUF holds ${ggufLimits.dimensionsMax}`);
    }
  }
}

import { type DType, dtypes } from '../graph/dtype.ts';
import { CheckpointError } from './errors.ts';
import { encodeString, encodeU32, encodeU64, encodeValue } from './gguf-encode.ts';
import { alignmentBytesDefault, alignUp, ggmlNameBytesMax, ggufLimits, ggufMagic } from './gguf-limits.ts';
import type { GgufValue } from './gguf-values.ts';
import { OutputFile, type TensorData, writeTensorData } from './output-file.ts';
import { tensorBytes } from './tensor-file.ts';

/** A tensor to write; its data is asked for when its turn comes. */
export interface GgufTensor {
  name: string;
  dtype: DType;
  /** Row-major, outermost first; at most four dimensions. */
  shape: readonly number[];
  data: TensorData;
}

export interface GgufContents {
  /** In the order in which they are written. `general.alignment` is added in front when it is not the default. */
  metadata: Iterable<readonly [string, GgufValue]>;
  tensors: readonly GgufTensor[];
  /** Of tensor data; a power of two from 8, default 32. */
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
  const alignmentBytes = checkedAlignment(contents);
  const header = encodeHeader(contents, alignmentBytes);
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

function checkedAlignment({ alignmentBytes = alignmentBytesDefault }: GgufContents): number {
  const fits = alignmentBytes >= 8 && alignmentBytes <= ggufLimits.alignmentBytesMax;
  if (fits && Number.isInteger(Math.log2(alignmentBytes))) return alignmentBytes;
  throw refuse(`alignment ${alignmentBytes} is no power of two from 8 to ${ggufLimits.alignmentBytesMax}`);
}

function requiredBytes({ name, dtype, shape }: GgufTensor): number {
  const bytes = tensorBytes(dtype, shape);
  if (bytes !== undefined && shape.every((size) => Number.isSafeInteger(size) && size >= 0)) return bytes;
  const block = dtypes[dtype].blockElements;
  throw refuse(
    `tensor '${name}' of shape [${shape}] cannot be stored as ${dtype}: rows must be multiples of ${block}`,
  );
}

function encodeHeader(contents: GgufContents, alignmentBytes: number): Uint8Array[] {
  const entries = withAlignment(contents.metadata, alignmentBytes);
  const { tensors } = contents;
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

function withAlignment(
  metadata: GgufContents['metadata'],
  alignmentBytes: number,
): (readonly [string, GgufValue])[] {
  const entries = [...metadata].filter(([key]) => key !== 'general.alignment');
  if (alignmentBytes === alignmentBytesDefault) return entries;
  return [['general.alignment', { type: 'u32', value: alignmentBytes }], ...entries];
}

function checkNames(entries: (readonly [string, GgufValue])[], tensors: readonly GgufTensor[]): void {
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

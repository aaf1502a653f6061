import { messageOf } from '../base/errors.ts';
import { type ByteSource, withFile } from './byte-source.ts';
import { CheckpointError, type CheckpointErrorCode } from './errors.ts';
import { decodeUtf8, isRecord, jsonTextProblem } from './json.ts';
import { layoutProblem } from './layout.ts';
import {
  dtypeOfSafetensors,
  isSafetensorsType,
  type SafetensorsType,
  safetensorsTypes,
} from './safetensors-types.ts';
import { elementCount, type StoredTensor } from './tensor-file.ts';

/** What a safetensors file may ask of us; the header limit is the format's own. */
export const safetensorsLimits = {
  headerBytesMax: 100_000_000,
  tensorsMax: 262_144,
  dimensionsMax: 8,
  tensorNameBytesMax: 4096,
  metadataEntriesMax: 65_536,
} as const;

/** Bytes of the header's length field. */
export const lengthBytes = 8;

/** A tensor of a type that Nereid does not compute with (masks, packed integers, fp8): listed, so that a model may do without it. */
export interface ForeignTensor extends Omit<StoredTensor, 'dtype'> {
  type: SafetensorsType;
}

/** A safetensors file: its header in memory, its tensors by position. */
export interface SafetensorsFile {
  path: string;
  /** The header's `__metadata__`: free text by key. */
  metadata: ReadonlyMap<string, string>;
  /** In the order of their data. */
  tensors: ReadonlyMap<string, StoredTensor>;
  foreign: ReadonlyMap<string, ForeignTensor>;
}

/**
 * Opens a safetensors file and checks its whole header; tensor data is not read.
 * @throws CheckpointError
 */
export function openSafetensors(path: string): SafetensorsFile {
  return withFile(path, parseSafetensors);
}

/** {@link openSafetensors} on any source of bytes. */
export function parseSafetensors(source: ByteSource): SafetensorsFile {
  const { header, dataStart } = readHeader(source);
  const metadata = readMetadata(source, header.__metadata__);
  const names = Object.keys(header).filter((name) => name !== '__metadata__');
  if (names.length > safetensorsLimits.tensorsMax) {
    const problem = `${names.length} tensors are over the limit of ${safetensorsLimits.tensorsMax}`;
    throw refuse('SAFETENSORS_LIMIT', source, problem);
  }
  const entries = names.map((name) => readTensorEntry(source, name, header[name], dataStart));
  checkLayout(source, entries, dataStart);
  entries.sort((a, b) => a.offset - b.offset);
  const tensors = new Map<string, StoredTensor>();
  const foreign = new Map<string, ForeignTensor>();
  for (const { type, ...tensor } of entries) {
    const dtype = dtypeOfSafetensors(type);
    if (dtype) tensors.set(tensor.name, { ...tensor, dtype });
    else foreign.set(tensor.name, { ...tensor, type });
  }
  return { path: source.path, metadata, tensors, foreign };
}

function refuse(
  code: CheckpointErrorCode,
  source: ByteSource,
  problem: string,
  cause?: unknown,
): CheckpointError {
  return new CheckpointError(code, `${source.path}: ${problem}; the file is damaged: fetch it again`, {
    cause,
  });
}

function readHeader(source: ByteSource): { header: Record<string, unknown>; dataStart: number } {
  const { sizeBytes } = source;
  if (sizeBytes < lengthBytes) {
    throw refuse('SAFETENSORS_TRUNCATED', source, `${sizeBytes} bytes are too few for a safetensors file`);
  }
  const lengthField = Buffer.alloc(lengthBytes);
  source.readInto(0, lengthField);
  const headerBytes = Number(lengthField.readBigUInt64LE(0));
  if (headerBytes > safetensorsLimits.headerBytesMax) {
    const problem = `a header of ${headerBytes} bytes is over the format's limit of ${safetensorsLimits.headerBytesMax}`;
    throw refuse('SAFETENSORS_LIMIT', source, problem);
  }
  const dataStart = lengthBytes + headerBytes;
  if (dataStart > sizeBytes) {
    throw refuse(
      'SAFETENSORS_TRUNCATED',
      source,
      `the header of ${headerBytes} bytes runs past the end (${sizeBytes} bytes)`,
    );
  }
  const bytes = Buffer.allocUnsafeSlow(headerBytes);
  source.readInto(lengthBytes, bytes);
  return { header: parseHeader(source, bytes), dataStart };
}

function parseHeader(source: ByteSource, bytes: Buffer): Record<string, unknown> {
  if (bytes[0] !== 0x7b)
    throw refuse('SAFETENSORS_HEADER_INVALID', source, "the header does not begin with '{'");
  let header: unknown;
  try {
    const text = decodeUtf8(bytes);
    const problem = jsonTextProblem(text, 4);
    if (problem?.kind === 'depth') throw new Error('it is nested more than 4 deep');
    header = JSON.parse(text);
    if (problem?.kind === 'duplicate') throw new Error(`the key "${problem.key}" stands twice`);
  } catch (thrown) {
    throw refuse(
      'SAFETENSORS_HEADER_INVALID',
      source,
      `the header is not valid (${messageOf(thrown)})`,
      thrown,
    );
  }
  if (isRecord(header)) return header;
  throw refuse('SAFETENSORS_HEADER_INVALID', source, 'the header is no JSON object');
}

function readMetadata(source: ByteSource, value: unknown): Map<string, string> {
  const metadata = new Map<string, string>();
  if (value === undefined) return metadata;
  if (!isRecord(value)) throw refuse('SAFETENSORS_HEADER_INVALID', source, '__metadata__ is no object');
  const entries = Object.entries(value);
  if (entries.length > safetensorsLimits.metadataEntriesMax) {
    throw refuse('SAFETENSORS_LIMIT', source, `${entries.length} metadata entries are too many`);
  }
  for (const [key, text] of entries) {
    if (typeof text !== 'string') {
      throw refuse('SAFETENSORS_HEADER_INVALID', source, `__metadata__ '${key}' is no string`);
    }
    metadata.set(key, text);
  }
  return metadata;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every(isCount);
}

function readTensorEntry(source: ByteSource, name: string, entry: unknown, dataStart: number): ForeignTensor {
  const bad = (problem: string) =>
    refuse('SAFETENSORS_TENSOR_INVALID', source, `tensor '${name.slice(0, 200)}' ${problem}`);
  if (Buffer.byteLength(name) > safetensorsLimits.tensorNameBytesMax) {
    throw refuse(
      'SAFETENSORS_LIMIT',
      source,
      `a tensor name is over ${safetensorsLimits.tensorNameBytesMax} bytes`,
    );
  }
  if (!isRecord(entry)) throw bad('is not described by an object');
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string') throw bad('has no dtype');
  if (!isSafetensorsType(dtype)) {
    const known = Object.keys(safetensorsTypes).join(', ');
    const message = `${source.path}: tensor '${name}' has the unknown dtype '${dtype}'; known: ${known}`;
    throw new CheckpointError('TENSOR_TYPE_UNSUPPORTED', message);
  }
  if (!isCounts(shape)) throw bad('has no shape of whole numbers');
  if (shape.length > safetensorsLimits.dimensionsMax)
    throw bad(`has ${shape.length} dimensions; ${safetensorsLimits.dimensionsMax} are the most`);
  if (!isCounts(offsets) || offsets.length !== 2) throw bad('has no two data_offsets');
  const [start, end] = offsets as [number, number];
  const bits = elementCount(shape) * safetensorsTypes[dtype].bits;
  if (!Number.isSafeInteger(bits) || bits % 8 !== 0) throw bad(`has a shape [${shape}] that no file holds`);
  if (end - start !== bits / 8) {
    throw bad(
      `of shape [${shape}] and dtype ${dtype} takes ${bits / 8} bytes, but its data_offsets span ${end - start}`,
    );
  }
  if (dataStart + end > source.sizeBytes) {
    const problem = `tensor '${name}' ends at byte ${dataStart + end}, but the file has ${source.sizeBytes}`;
    throw refuse('SAFETENSORS_TRUNCATED', source, problem);
  }
  return { name, type: dtype, shape, path: source.path, offset: dataStart + start, byteLength: end - start };
}

/** The format wants every byte of the data in exactly one tensor. */
function checkLayout(source: ByteSource, entries: readonly ForeignTensor[], dataStart: number): void {
  const ranges = entries.map(({ name, offset, byteLength }) => {
    const start = offset - dataStart;
    return { name, start, end: start + byteLength };
  });
  const problem = layoutProblem(ranges, source.sizeBytes - dataStart);
  if (problem?.kind === 'overlap') {
    const names = `'${problem.first.name}' and '${problem.second.name}'`;
    throw refuse('SAFETENSORS_LAYOUT_INVALID', source, `tensors ${names} share bytes`);
  }
  if (problem?.kind === 'hole') {
    const text = `bytes ${problem.start} to ${problem.end} of the data belong to no tensor`;
    throw refuse('SAFETENSORS_LAYOUT_INVALID', source, text);
  }
}

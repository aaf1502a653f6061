import { definite } from '../base/errors.ts';
import { type DType, dtypeNames, dtypeOfGgmlId, dtypes } from '../graph/dtype.ts';
import { type ByteSource, withFile } from './byte-source.ts';
import { CheckpointError } from './errors.ts';
import { GgufCursor } from './gguf-cursor.ts';
import { damaged, readEntries } from './gguf-decode.ts';
import { alignmentBytesDefault, alignUp, ggufLimits, ggufMagic } from './gguf-limits.ts';
import type { GgufParts } from './gguf-parts.ts';
import { readShards } from './gguf-split.ts';
import { GgufMetadata, type GgufValue } from './gguf-values.ts';
import { layoutProblem } from './layout.ts';
import { type StoredTensor, tensorBytes } from './tensor-file.ts';

/** A GGUF model: metadata in memory, tensors by position. Several files when the model is split. */
export class GgufFile extends GgufMetadata {
  readonly kind = 'gguf';
  readonly version: number;
  readonly alignmentBytes: number;
  /** In the file's order; across shards in shard order. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Every file that holds a part, in shard order. */
  readonly files: readonly string[];

  constructor(parts: GgufParts, files: readonly string[] = [parts.path]) {
    super(parts.path, parts.metadata);
    this.version = parts.version;
    this.alignmentBytes = parts.alignmentBytes;
    this.tensors = parts.tensors;
    this.files = files;
  }

  /** `general.architecture`. */
  get architecture(): string {
    return this.string('general.architecture');
  }

  /** @throws CheckpointError naming the tensor */
  tensor(name: string): StoredTensor {
    const tensor = this.tensors.get(name);
    if (tensor) return tensor;
    throw new CheckpointError(
      'TENSOR_NOT_FOUND',
      `${this.path} has no tensor '${name}'; convert the model again`,
    );
  }
}

/**
 * Opens a GGUF file (version 2 or 3, little-endian). The first file of a split model opens all its shards.
 * @throws CheckpointError
 */
export function openGguf(path: string): GgufFile {
  const first = withFile(path, parseGguf);
  const shards = readShards(first, (shardPath) => withFile(shardPath, parseGguf));
  if (shards.length === 1) return new GgufFile(first);
  const tensors = new Map(shards.flatMap((shard) => [...shard.tensors]));
  const files = shards.map((shard) => shard.path);
  return new GgufFile({ ...first, tensors }, files);
}

/** Parses one GGUF file, whatever its metadata says of shards. */
export function parseGguf(source: ByteSource): GgufParts {
  const cursor = new GgufCursor(source);
  const version = readVersion(cursor, source);
  const tensorCount = cursor.count(ggufLimits.tensorsMax, 'the tensor count');
  const entryCount = cursor.count(ggufLimits.metadataEntriesMax, 'the metadata count');
  const metadata = readEntries(cursor, entryCount);
  const alignmentBytes = readAlignment(source, metadata);
  const tensors = readTensors(cursor, source, tensorCount, alignmentBytes);
  return { path: source.path, version, alignmentBytes, metadata, tensors };
}

function readVersion(cursor: GgufCursor, source: ByteSource): number {
  const magic = Buffer.alloc(ggufMagic.length);
  cursor.bytes(magic);
  if (magic.toString('latin1') !== ggufMagic) {
    const problem = `${source.path} is no GGUF file (its first bytes are ${magic.toString('hex')}, not 'GGUF')`;
    throw new CheckpointError(
      'CHECKPOINT_UNRECOGNIZED',
      `${problem}; give a .gguf file or a Hugging Face folder`,
    );
  }
  const version = cursor.u32();
  if (version === 2 || version === 3) return version;
  const bigEndian = version !== 0 && (version & 0xffff) === 0;
  const what = bigEndian ? 'a big-endian GGUF' : `GGUF version ${version}`;
  const fix = 'Nereid reads little-endian versions 2 and 3: convert the model again with a current converter';
  throw new CheckpointError('GGUF_VERSION_UNSUPPORTED', `${source.path} is ${what}; ${fix}`);
}

function readAlignment(source: ByteSource, metadata: Map<string, GgufValue>): number {
  const alignment = new GgufMetadata(source.path, metadata).optionalNumber('general.alignment');
  if (alignment === undefined) return alignmentBytesDefault;
  const powerOfTwo = alignment > 0 && Number.isInteger(Math.log2(alignment));
  if (powerOfTwo && alignment >= 1 && alignment <= ggufLimits.alignmentBytesMax) return alignment;
  const problem = `general.alignment is ${alignment}, but must be a power of two up to ${ggufLimits.alignmentBytesMax}`;
  throw damaged('GGUF_METADATA_INVALID', source.path, problem);
}

function readTensors(
  cursor: GgufCursor,
  source: ByteSource,
  count: number,
  alignmentBytes: number,
): Map<string, StoredTensor> {
  const tensors: StoredTensor[] = [];
  for (let i = 0; i < count; i++) {
    cursor.reading = `the description of tensor ${i} of ${count}`;
    tensors.push(readTensorInfo(cursor, source, alignmentBytes));
  }
  const dataStart = alignUp(cursor.position, alignmentBytes);
  const byName = new Map<string, StoredTensor>();
  for (const tensor of tensors) {
    tensor.offset += dataStart;
    if (byName.has(tensor.name))
      throw damaged('GGUF_TENSOR_INVALID', source.path, `tensor '${tensor.name}' stands twice`);
    byName.set(tensor.name, tensor);
    if (tensor.byteLength > 0 && tensor.offset + tensor.byteLength > source.sizeBytes) {
      const needed = `tensor '${tensor.name}' ends at byte ${tensor.offset + tensor.byteLength}`;
      const problem = `${source.path} has ${source.sizeBytes} bytes, but ${needed}`;
      throw new CheckpointError('GGUF_TRUNCATED', `${problem}; the download is incomplete: fetch it again`);
    }
  }
  checkOverlap(source, tensors);
  return byName;
}

function checkOverlap(source: ByteSource, tensors: readonly StoredTensor[]): void {
  const ranges = tensors.map(({ name, offset, byteLength }) => ({
    name,
    start: offset,
    end: offset + byteLength,
  }));
  const problem = layoutProblem(ranges);
  if (problem?.kind !== 'overlap') return;
  const names = `'${problem.first.name}' and '${problem.second.name}'`;
  throw damaged('GGUF_LAYOUT_INVALID', source.path, `tensors ${names} share bytes`);
}

/** One tensor's entry; its `offset` still counts from the start of the tensor data. */
function readTensorInfo(cursor: GgufCursor, source: ByteSource, alignmentBytes: number): StoredTensor {
  const name = cursor.string(ggufLimits.tensorNameBytesMax, 'a tensor name in bytes');
  const dimensions = cursor.u32();
  if (dimensions > ggufLimits.dimensionsMax) {
    throw cursor.overLimit(`the dimension count of tensor '${name}'`, dimensions, ggufLimits.dimensionsMax);
  }
  const shape: number[] = [];
  for (let i = 0; i < dimensions; i++) {
    shape.unshift(cursor.count(Number.MAX_SAFE_INTEGER, `a dimension of tensor '${name}'`));
  }
  const dtype = readDType(cursor, source, name);
  const offset = cursor.count(Number.MAX_SAFE_INTEGER, `the offset of tensor '${name}'`);
  if (offset % alignmentBytes !== 0) {
    const problem = `tensor '${name}' starts at ${offset}, which is no multiple of the alignment ${alignmentBytes}`;
    throw damaged('GGUF_LAYOUT_INVALID', source.path, problem);
  }
  const byteLength = tensorBytes(dtype, shape);
  if (byteLength === undefined || !Number.isSafeInteger(offset + byteLength)) {
    const block = definite(dtypes[dtype], dtype).blockElements;
    const problem = `tensor '${name}' of shape [${shape}] is too large or has rows that are no multiple of ${dtype}'s block of ${block}`;
    throw damaged('GGUF_TENSOR_INVALID', source.path, problem);
  }
  return { name, dtype, shape, path: source.path, offset, byteLength };
}

function readDType(cursor: GgufCursor, source: ByteSource, name: string): DType {
  const id = cursor.u32();
  const dtype = dtypeOfGgmlId(id);
  if (dtype) return dtype;
  const problem = `${source.path}: tensor '${name}' has ggml type ${id}, which Nereid does not know`;
  throw new CheckpointError(
    'TENSOR_TYPE_UNSUPPORTED',
    `${problem}; convert the model to one of ${dtypeNames.join(', ')}`,
  );
}

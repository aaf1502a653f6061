import { CheckpointError, type CheckpointErrorCode } from './errors.ts';
import type { GgufCursor } from './gguf-cursor.ts';
import { ggufLimits } from './gguf-limits.ts';
import {
  type GgufArray,
  type GgufType,
  type GgufValue,
  ggufTypeBytes,
  ggufTypes,
  isNumberType,
} from './gguf-values.ts';

/** What a damaged file's error says to do. */
export function damaged(code: CheckpointErrorCode, path: string, problem: string): CheckpointError {
  return new CheckpointError(code, `${path}: ${problem}; the file is damaged: download or convert it again`);
}

/** Reads a GGUF's key-value pairs. @throws CheckpointError */
export function readEntries(cursor: GgufCursor, count: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  const budget: Budget = { objects: 0 };
  for (let i = 0; i < count; i++) {
    cursor.reading = `metadata entry ${i} of ${count}`;
    const key = cursor.string(ggufLimits.keyBytesMax, 'a metadata key in bytes');
    if (metadata.has(key))
      throw damaged('GGUF_METADATA_INVALID', cursor.path, `metadata key '${key}' stands twice`);
    cursor.reading = `the value of metadata key '${key}'`;
    metadata.set(key, readValue(cursor, readType(cursor), budget));
  }
  return metadata;
}

/** JavaScript values made for array elements so far: a byte in the file may cost a hundred in memory. */
interface Budget {
  objects: number;
}

function readType(cursor: GgufCursor): GgufType {
  const id = cursor.u32();
  const type = ggufTypes[id];
  if (type) return type;
  throw damaged('GGUF_METADATA_INVALID', cursor.path, `${cursor.reading} has the unknown type ${id}`);
}

function readValue(cursor: GgufCursor, type: GgufType, budget: Budget): GgufValue {
  if (type === 'array') return readArray(cursor, budget, 1);
  if (type === 'string') {
    return { type, value: cursor.string(ggufLimits.stringBytesMax, 'a metadata string in bytes') };
  }
  if (type === 'bool') return { type, value: readBoolean(cursor) };
  if (type === 'u64' || type === 'i64') return { type, value: cursor[type]() };
  return { type, value: cursor[type]() };
}

function readBoolean(cursor: GgufCursor): boolean {
  const value = cursor.u8();
  if (value > 1)
    throw damaged('GGUF_METADATA_INVALID', cursor.path, `${cursor.reading} holds the boolean ${value}`);
  return value === 1;
}

const numberArrays = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  f64: Float64Array,
} as const;

function readArray(cursor: GgufCursor, budget: Budget, depth: number): GgufArray {
  if (depth > ggufLimits.arrayDepthMax) {
    throw cursor.overLimit('the nesting of metadata arrays', depth, ggufLimits.arrayDepthMax);
  }
  const of = readType(cursor);
  const count = cursor.count(ggufLimits.arrayElementsMax, 'the length of a metadata array');
  const bytesMin = count * ggufTypeBytes[of];
  if (bytesMin > cursor.remainingBytes) cursor.reading += `, an array of ${count} ${of}`;
  cursor.require(bytesMin); // Before anything is allocated for the claimed length.
  const type = 'array';
  if (isNumberType(of)) return { type, of, value: fill(cursor, new numberArrays[of](count)) };
  if (of === 'u64') return { type, of, value: fill(cursor, new BigUint64Array(count)) };
  if (of === 'i64') return { type, of, value: fill(cursor, new BigInt64Array(count)) };
  budget.objects += count;
  if (budget.objects > ggufLimits.arrayObjectsMax) {
    const what = 'the number of strings, booleans and arrays in metadata arrays';
    throw cursor.overLimit(what, budget.objects, ggufLimits.arrayObjectsMax);
  }
  if (of === 'bool') return { type, of, value: Array.from({ length: count }, () => readBoolean(cursor)) };
  if (of === 'string') return { type, of, value: readStrings(cursor, count) };
  return { type, of, value: Array.from({ length: count }, () => readArray(cursor, budget, depth + 1)) };
}

function fill<T extends ArrayBufferView>(cursor: GgufCursor, array: T): T {
  cursor.bytes(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  return array;
}

function readStrings(cursor: GgufCursor, count: number): string[] {
  const strings: string[] = [];
  for (let i = 0; i < count; i++) {
    strings.push(cursor.string(ggufLimits.stringBytesMax, 'a metadata string in bytes'));
  }
  return strings;
}

import { CheckpointError } from './errors.ts';
import { ggufLimits } from './gguf-limits.ts';
import { type GgufArray, type GgufType, type GgufValue, ggufTypeBytes, ggufTypes } from './gguf-values.ts';

/** Four bytes, little-endian. */
export function encodeU32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Eight bytes, little-endian. */
export function encodeU64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** Length-prefixed UTF-8. */
export function encodeString(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const bytes = Buffer.allocUnsafe(8 + length);
  bytes.writeBigUInt64LE(BigInt(length));
  bytes.write(text, 8);
  return bytes;
}

/**
 * The value with its type id in front.
 * @throws CheckpointError naming `key` when the value is out of its type's range
 */
export function encodeValue(key: string, value: GgufValue): Buffer {
  try {
    const body = value.type === 'array' ? encodeArray(value, 1) : encodeScalar(value.type, value.value);
    return Buffer.concat([encodeU32(ggufTypes.indexOf(value.type)), body]);
  } catch (thrown) {
    if (thrown instanceof CheckpointError) throw thrown;
    const problem = `metadata key '${key}': ${(thrown as Error).message}`;
    throw new CheckpointError('CHECKPOINT_WRITE_INVALID', problem, { cause: thrown });
  }
}

function encodeScalar(type: Exclude<GgufType, 'array'>, value: unknown): Buffer {
  if (type === 'string') return encodeString(value as string);
  const bytes = Buffer.alloc(ggufTypeBytes[type]);
  put[type](bytes, 0, value as never);
  return bytes;
}

/** Writes a fixed-size value; Node's own range checks throw for integers that do not fit. */
const put = {
  u8: (bytes: Buffer, at: number, value: number) => bytes.writeUInt8(whole(value), at),
  i8: (bytes: Buffer, at: number, value: number) => bytes.writeInt8(whole(value), at),
  u16: (bytes: Buffer, at: number, value: number) => bytes.writeUInt16LE(whole(value), at),
  i16: (bytes: Buffer, at: number, value: number) => bytes.writeInt16LE(whole(value), at),
  u32: (bytes: Buffer, at: number, value: number) => bytes.writeUInt32LE(whole(value), at),
  i32: (bytes: Buffer, at: number, value: number) => bytes.writeInt32LE(whole(value), at),
  f32: (bytes: Buffer, at: number, value: number) => bytes.writeFloatLE(value, at),
  f64: (bytes: Buffer, at: number, value: number) => bytes.writeDoubleLE(value, at),
  bool: (bytes: Buffer, at: number, value: boolean) => bytes.writeUInt8(value ? 1 : 0, at),
  u64: (bytes: Buffer, at: number, value: number | bigint) => bytes.writeBigUInt64LE(BigInt(value), at),
  i64: (bytes: Buffer, at: number, value: number | bigint) => bytes.writeBigInt64LE(BigInt(value), at),
};

function whole(value: number): number {
  if (Number.isInteger(value)) return value;
  throw new RangeError(`${value} is no whole number`);
}

function encodeArray({ of, value }: GgufArray, depth: number): Buffer {
  if (depth > ggufLimits.arrayDepthMax)
    throw new RangeError(`arrays are nested more than ${ggufLimits.arrayDepthMax} deep`);
  if (value.length > ggufLimits.arrayElementsMax)
    throw new RangeError(`${value.length} elements are too many`);
  const head = [encodeU32(ggufTypes.indexOf(of)), encodeU64(value.length)];
  if (of === 'string') return Buffer.concat([...head, encodeStrings(value)]);
  if (of === 'array') return Buffer.concat([...head, ...value.map((inner) => encodeArray(inner, depth + 1))]);
  const size = ggufTypeBytes[of];
  const body = Buffer.alloc(value.length * size);
  for (let i = 0; i < value.length; i++) put[of](body, i * size, value[i] as never);
  return Buffer.concat([...head, body]);
}

/** One allocation for all: vocabularies have hundreds of thousands of words. */
function encodeStrings(strings: readonly string[]): Buffer {
  const total = strings.reduce((sum, text) => sum + 8 + Buffer.byteLength(text), 0);
  const bytes = Buffer.allocUnsafe(total);
  let at = 0;
  for (const text of strings) {
    const length = bytes.write(text, at + 8);
    bytes.writeBigUInt64LE(BigInt(length), at);
    at += 8 + length;
  }
  return bytes;
}

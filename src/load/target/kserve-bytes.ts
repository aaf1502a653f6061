import type { WireTensor } from './kserve-tensors.ts';

/** A numeric type's size, and how one value is put and read; little-endian, as KServe's raw contents are. */
interface NumberType {
  bytes: number;
  put(buffer: Buffer, value: number, at: number): void;
  get(buffer: Buffer, at: number): number;
}

const numberTypes: Record<string, NumberType> = {
  BOOL: { bytes: 1, put: (b, v, at) => b.writeUInt8(v, at), get: (b, at) => b.readUInt8(at) },
  INT32: { bytes: 4, put: (b, v, at) => b.writeInt32LE(v, at), get: (b, at) => b.readInt32LE(at) },
  UINT32: { bytes: 4, put: (b, v, at) => b.writeUInt32LE(v, at), get: (b, at) => b.readUInt32LE(at) },
  FP32: { bytes: 4, put: (b, v, at) => b.writeFloatLE(v, at), get: (b, at) => b.readFloatLE(at) },
  INT64: {
    bytes: 8,
    put: (b, v, at) => b.writeBigInt64LE(BigInt(v), at),
    get: (b, at) => Number(b.readBigInt64LE(at)),
  },
  UINT64: {
    bytes: 8,
    put: (b, v, at) => b.writeBigUInt64LE(BigInt(v), at),
    get: (b, at) => Number(b.readBigUInt64LE(at)),
  },
};

/** A tensor's raw contents. BYTES: each text behind its length in four bytes. */
export function rawContents({ datatype, values }: WireTensor): Buffer {
  const type = numberTypes[datatype];
  if (type) {
    const data = Buffer.alloc(values.length * type.bytes);
    for (const [index, value] of values.entries()) type.put(data, Number(value), index * type.bytes);
    return data;
  }
  const parts = values.flatMap((value) => {
    const bytes = Buffer.from(String(value), 'utf8');
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return [length, bytes];
  });
  return Buffer.concat(parts);
}

/** The values of raw contents; none for a type that these clients do not read. */
export function valuesOf(datatype: string, bytes: Uint8Array): (number | string)[] {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values: (number | string)[] = [];
  const type = numberTypes[datatype];
  if (type) {
    for (let at = 0; at + type.bytes <= data.length; at += type.bytes) values.push(type.get(data, at));
  } else if (datatype === 'BYTES') {
    for (let at = 0; at + 4 <= data.length; ) {
      const end = at + 4 + data.readUInt32LE(at);
      values.push(data.toString('utf8', at + 4, end));
      at = end;
    }
  }
  return values;
}

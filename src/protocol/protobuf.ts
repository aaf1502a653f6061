/**
 * Protocol Buffers' wire format, by hand, for the messages of the token path: less than half of the time that protobufjs and protobuf-es need
 * (docs/decisions/protobuf.md). All other messages go through `proto-messages.ts`.
 */

import { protobufValuesMax } from './limits.ts';

const varint = 0;
const fixed64 = 1;
const delimited = 2;
const fixed32 = 5;

/** Bytes that are no protobuf message. gRPC answers INTERNAL. */
export class ProtobufError extends Error {}

/** Grows by doubling; what a burst needed is kept up to this. */
const keptBytesMax = 1024 * 1024;
const firstBytes = 4096;
/** Texts up to this are looked at character by character. */
const shortTextLengthMax = 64;
/** Bytes up to this are copied one by one: a token's tensors. */
const shortBytesMax = 16;

/** Writes one message after the other; the buffer is used again, so {@link take} copies. */
export class ProtoWriter {
  #buffer = Buffer.allocUnsafeSlow(firstBytes);
  #at = 0;

  /** The bytes written so far, as a buffer of their own; the writer is empty again. */
  take(): Buffer {
    const bytes = Buffer.allocUnsafe(this.#at);
    this.#buffer.copy(bytes, 0, 0, this.#at);
    this.#at = 0;
    if (this.#buffer.length > keptBytesMax) this.#buffer = Buffer.allocUnsafeSlow(firstBytes);
    return bytes;
  }

  /** A text, unless it is empty (proto3 leaves those out). */
  string(field: number, text: string): void {
    if (text !== '') this.stringAlways(field, text);
  }

  /** A text, even an empty one (in maps, lists and oneofs). */
  stringAlways(field: number, text: string): void {
    if (text.length <= shortTextLengthMax && this.#shortAscii(field, text)) return;
    const length = Buffer.byteLength(text);
    this.#reserve(length + 16);
    this.#head(field, delimited, length);
    this.#buffer.write(text, this.#at, length, 'utf8');
    this.#at += length;
  }

  /** Names, types and ids: a loop over their characters is faster than a call into Node. */
  #shortAscii(field: number, text: string): boolean {
    this.#reserve(shortTextLengthMax + 16);
    const before = this.#at;
    this.#head(field, delimited, text.length);
    const buffer = this.#buffer;
    for (let i = 0, at = this.#at; i < text.length; i++, at++) {
      const unit = text.charCodeAt(i);
      if (unit > 0x7f) {
        this.#at = before;
        return false;
      }
      buffer[at] = unit;
    }
    this.#at += text.length;
    return true;
  }

  bytes(field: number, data: Uint8Array): void {
    this.#reserve(data.length + 16);
    this.#head(field, delimited, data.length);
    if (data.length <= shortBytesMax)
      for (let i = 0; i < data.length; i++) this.#buffer[this.#at++] = data[i] as number;
    else {
      this.#buffer.set(data, this.#at);
      this.#at += data.length;
    }
  }

  bool(field: number, value: boolean): void {
    this.#reserve(16);
    this.#head(field, varint, value ? 1 : 0);
  }

  /** int32, int64, uint32 or uint64 (negative numbers take ten bytes, as the format wants). */
  integer(field: number, value: number | bigint): void {
    this.#reserve(32);
    this.#varint((field << 3) | varint);
    this.#integer(value);
  }

  double(field: number, value: number): void {
    this.#reserve(32);
    this.#varint((field << 3) | fixed64);
    this.#buffer.writeDoubleLE(value, this.#at);
    this.#at += 8;
  }

  /** A packed list of int64, unless it is empty. */
  packedIntegers(field: number, values: readonly number[]): void {
    if (values.length === 0) return;
    const start = this.begin(field);
    this.#reserve(values.length * 10);
    for (const value of values) this.#integer(value);
    this.end(start);
  }

  /** Opens an embedded message; what is written until {@link end} is in it. */
  begin(field: number): number {
    this.#reserve(16);
    this.#varint((field << 3) | delimited);
    // Most embedded messages are short: one byte is kept for the length, and a longer one is made room for afterwards.
    return ++this.#at;
  }

  /** @param start what {@link begin} returned */
  end(start: number): void {
    const length = this.#at - start;
    if (length < 0x80) {
      this.#buffer[start - 1] = length;
      return;
    }
    const extra = varintBytes(length) - 1;
    this.#reserve(extra);
    this.#buffer.copyWithin(start + extra, start, this.#at);
    this.#at = start - 1;
    this.#varint(length);
    this.#at += length;
  }

  /** Bytes that are whole fields already. */
  raw(fields: Uint8Array): void {
    this.#reserve(fields.length);
    this.#buffer.set(fields, this.#at);
    this.#at += fields.length;
  }

  #head(field: number, wireType: number, value: number): void {
    this.#varint((field << 3) | wireType);
    this.#varint(value);
  }

  #integer(value: number | bigint): void {
    if (typeof value === 'number' && value >= 0 && value <= 0xffffffff) {
      this.#varint(value);
      return;
    }
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest > 0x7fn; rest >>= 7n) this.#buffer[this.#at++] = Number(rest & 0x7fn) | 0x80;
    this.#buffer[this.#at++] = Number(rest);
  }

  #varint(value: number): void {
    let rest = value;
    while (rest > 0x7f) {
      this.#buffer[this.#at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#buffer[this.#at++] = rest;
  }

  #reserve(bytes: number): void {
    const wanted = this.#at + bytes;
    if (wanted <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(wanted, this.#buffer.length * 2));
    this.#buffer.copy(grown, 0, 0, this.#at);
    this.#buffer = grown;
  }
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) bytes++;
  return bytes;
}

/** Reads the fields of one message. Texts and bytes are what the field holds; byte fields are views. */
export class ProtoReader {
  readonly #bytes: Buffer;
  #at: number;
  #end: number;
  #wireType = 0;
  /** Fields and values read so far. */
  #count = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#at = 0;
    this.#end = bytes.length;
  }

  /** The next field's number; 0 at the message's end. Its value must be read or skipped before the next call. */
  field(): number {
    if (this.#at >= this.#end) return 0;
    this.#counted();
    const tag = this.#varint32();
    this.#wireType = tag & 7;
    const field = tag >>> 3;
    if (field === 0) throw new ProtobufError('a field has number 0');
    return field;
  }

  skip(): void {
    if (this.#wireType === varint) this.#bigVarint();
    else if (this.#wireType === fixed64) this.#advance(8);
    else if (this.#wireType === fixed32) this.#advance(4);
    else this.#advance(this.#length());
  }

  string(): string {
    const length = this.#length();
    const start = this.#at;
    this.#advance(length);
    return this.#bytes.toString('utf8', start, start + length);
  }

  bytes(): Buffer {
    const length = this.#length();
    const start = this.#at;
    this.#advance(length);
    return this.#bytes.subarray(start, start + length);
  }

  bool(): boolean {
    this.#expect(varint);
    return this.#bigVarint() !== 0n;
  }

  /** int64 (or int32): a number, and a bigint where a number would not be exact. */
  int64(): number | bigint {
    this.#expect(varint);
    return exact(BigInt.asIntN(64, this.#bigVarint()));
  }

  uint64(): number | bigint {
    this.#expect(varint);
    return exact(this.#bigVarint());
  }

  double(): number {
    this.#expect(fixed64);
    const start = this.#at;
    this.#advance(8);
    return this.#bytes.readDoubleLE(start);
  }

  /** Runs `read` for an embedded message's fields. */
  message(read: () => void): void {
    const length = this.#length();
    const after = this.#at + length;
    if (after > this.#end) throw truncated();
    const end = this.#end;
    this.#end = after;
    read();
    this.#at = after;
    this.#end = end;
  }

  /** Adds the values of a repeated varint field, packed or not. */
  varints(add: (value: bigint) => void): void {
    if (this.#wireType === varint) {
      add(this.#bigVarint());
      return;
    }
    this.message(() => {
      while (this.#at < this.#end) {
        this.#counted();
        add(this.#bigVarint());
      }
    });
  }

  /** Adds the values of a repeated float (4 bytes) or double (8) field, packed or not. */
  floats(bytes: 4 | 8, add: (value: number) => void): void {
    const one = (): void => {
      const start = this.#at;
      this.#advance(bytes);
      add(bytes === 4 ? this.#bytes.readFloatLE(start) : this.#bytes.readDoubleLE(start));
    };
    if (this.#wireType !== delimited) {
      this.#expect(bytes === 4 ? fixed32 : fixed64);
      one();
      return;
    }
    this.message(() => {
      while (this.#at < this.#end) {
        this.#counted();
        one();
      }
    });
  }

  #counted(): void {
    if (++this.#count <= protobufValuesMax) return;
    throw new ProtobufError(
      `the message has over ${protobufValuesMax} fields and values; send large tensors as raw contents`,
    );
  }

  #length(): number {
    this.#expect(delimited);
    return this.#varint32();
  }

  #expect(wireType: number): void {
    if (this.#wireType !== wireType) throw new ProtobufError(`a field has wire type ${this.#wireType}`);
  }

  #advance(bytes: number): void {
    this.#at += bytes;
    if (this.#at > this.#end) throw truncated();
  }

  #varint32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      if (this.#at >= this.#end) throw truncated();
      const byte = this.#bytes[this.#at++] as number;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    throw new ProtobufError('a length or tag is over 32 bits');
  }

  #bigVarint(): bigint {
    let low = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      if (this.#at >= this.#end) throw truncated();
      const byte = this.#bytes[this.#at++] as number;
      low |= (byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt(low);
    }
    let value = BigInt(low);
    for (let shift = 28n; shift < 70n; shift += 7n) {
      if (this.#at >= this.#end) throw truncated();
      const byte = this.#bytes[this.#at++] as number;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new ProtobufError('a varint is over 64 bits');
  }
}

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function truncated(): ProtobufError {
  return new ProtobufError('the message ends early');
}

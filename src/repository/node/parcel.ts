import type { Parameters, ParameterValue } from '../model.ts';
import type { Tensor } from '../tensor.ts';

/** Tensors up to this many bytes travel together with others. */
const togetherBytesMax = 16 * 1024;
/** So many of those bytes travel as text: a text is copied to another thread for a tenth of what a buffer costs. */
const textBytesMax = 32 * 1024;
/** Room that a packer begins with. */
const roomBytes = 4 * 1024;
/** What typed views of any datatype need. */
const alignment = 8;

/** A tensor whose bytes lie elsewhere in the same parcel. */
export interface PackedTensor extends Omit<Tensor, 'data' | 'mark'> {
  /** Where its bytes begin in {@link Parcel.together}, or which of {@link Parcel.apart} they are. */
  at: number;
  /** Bytes in {@link Parcel.together}; −1: they are apart. */
  length: number;
}

/** Parameters as JSON can carry them: whole numbers beyond 2^53 and what is no number as texts of their own kind. Absent: none. */
export type PackedParameters = Record<string, ParameterValue | { exactly: string }> | undefined;

/** Everything that one thread has to tell another at a time. */
export interface Parcel<Message> {
  messages: Message[];
  together: Uint8Array;
  apart: readonly Uint8Array[];
  /** On the sender's `performance.now()`. */
  sentMs: number;
}

/** A {@link Parcel} as it is posted: JSON, and bytes in Latin-1 where they are few. */
export interface SealedParcel {
  json: string;
  together: string | Uint8Array;
  apart: Uint8Array[];
  sentMs: number;
}

/**
 * Collects messages with their tensors, to be posted as one: each message by itself would wake the other thread, and each tensor would need
 * a buffer of its own. Bytes are copied when they are added.
 */
export class ParcelPacker<Message> {
  #messages: Message[] = [];
  #room = Buffer.alloc(roomBytes);
  #used = 0;
  #apart: Uint8Array[] = [];

  get isEmpty(): boolean {
    return this.#messages.length === 0;
  }

  add(message: Message): void {
    this.#messages.push(message);
  }

  /** To be put into a message that is added before the next {@link seal}. */
  pack({ name, datatype, shape, data }: Tensor): PackedTensor {
    const { length } = data;
    if (length > togetherBytesMax) {
      this.#apart.push(new Uint8Array(data));
      return { name, datatype, shape, at: this.#apart.length - 1, length: -1 };
    }
    const at = this.#used;
    const end = at + length;
    if (end > this.#room.length) {
      const more = Buffer.alloc(Math.max(end, 2 * this.#room.length));
      more.set(this.#room.subarray(0, at));
      this.#room = more;
    }
    this.#room.set(data, at);
    this.#used = Math.ceil(end / alignment) * alignment;
    return { name, datatype, shape, at, length };
  }

  /** What has been added, and the buffers to be moved with it; it is empty then. */
  seal(): { sealed: SealedParcel; transfer: ArrayBuffer[] } {
    const transfer = this.#apart.map(({ buffer }) => buffer as ArrayBuffer);
    let together: string | Uint8Array;
    if (this.#used <= textBytesMax) together = this.#room.toString('latin1', 0, this.#used);
    else {
      together = new Uint8Array(this.#room.subarray(0, this.#used));
      transfer.push(together.buffer as ArrayBuffer);
      // One burst of large tensors need not keep its room for ever.
      this.#room = Buffer.alloc(roomBytes);
    }
    const json = JSON.stringify(this.#messages);
    const sealed = { json, together, apart: this.#apart, sentMs: performance.now() };
    this.#messages = [];
    this.#used = 0;
    this.#apart = [];
    return { sealed, transfer };
  }
}

/** A parcel that came. */
export function opened<Message>({ json, together, apart, sentMs }: SealedParcel): Parcel<Message> {
  const bytes = typeof together === 'string' ? Buffer.from(together, 'latin1') : together;
  return { messages: JSON.parse(json) as Message[], together: bytes, apart, sentMs };
}

/** A tensor with its bytes, as views into the parcel. */
export function unpacked(
  { name, datatype, shape, at, length }: PackedTensor,
  { together, apart }: Parcel<unknown>,
): Tensor {
  const data = length < 0 ? (apart[at] ?? together.subarray(0, 0)) : together.subarray(at, at + length);
  return { name, datatype, shape, data };
}

/** Parameters on their way. */
export function packedParameters(parameters: Parameters | undefined): PackedParameters {
  if (!parameters) return undefined;
  const entries = Object.entries(parameters);
  if (entries.length === 0) return undefined;
  return Object.fromEntries(
    entries.map(([name, value]) => [name, isPlain(value) ? value : { exactly: String(value) }] as const),
  );
}

/** Parameters that came. */
export function unpackedParameters(parameters: PackedParameters): Parameters {
  if (!parameters) return {};
  return Object.fromEntries(
    Object.entries(parameters).map(([name, value]) => [name, exactValue(value)] as const),
  );
}

function isPlain(value: ParameterValue): boolean {
  return typeof value === 'number' ? Number.isFinite(value) : typeof value !== 'bigint';
}

function exactValue(value: ParameterValue | { exactly: string }): ParameterValue {
  if (typeof value !== 'object') return value;
  const { exactly } = value;
  return /^-?\d+$/.test(exactly) ? BigInt(exactly) : Number(exactly);
}

import type { Socket } from 'node:net';
import { messageOf } from '../../base/errors.ts';
import { RuntimeError } from '../errors.ts';

/** What a frame holds. Handshake and set-up are JSON of bounded size, the rest `columns.ts`. */
export const frameKinds = {
  challenge: 1,
  hello: 2,
  welcome: 3,
  refused: 4,
  listening: 5,
  roster: 6,
  joined: 7,
  facts: 8,
  allocate: 9,
  allocated: 10,
  step: 11,
  hidden: 12,
  result: 13,
  failed: 14,
  exchange: 15,
  settings: 16,
} as const;

export type FrameKind = keyof typeof frameKinds;

const kindNames = new Map<number, FrameKind>(
  Object.entries(frameKinds).map(([name, code]) => [code, name as FrameKind]),
);

/** Largest frame of JSON, which is all that a stranger may send, and largest frame at all: 256 MiB of activations. */
const jsonBytesMax = 64 * 1024;
const frameBytesMax = 256 * 1024 * 1024;
/** Frames of one kind that wait to be taken; a peer that is further ahead is out of step. */
export const waitingFramesMax = 256;
/** Bytes that a peer may leave unread before it counts as lost. */
export const unreadBytesMax = 512 * 1024 * 1024;

const magic = 0x4b_52_52_4e;
/** magic, kind, bytes of the body, 0: so that bodies start at a multiple of 8. */
const headerBytes = 16;
const binaryKinds = new Set<FrameKind>(['step', 'hidden', 'result', 'exchange']);

interface Waiter {
  resolve(body: Uint8Array): void;
  reject(reason: Error): void;
}

/** A connection between two ranks: frames of a kind are taken in the order in which they were sent. */
export class RankLink {
  /** The other end's rank; −1 until it has said so. */
  peer = -1;
  readonly #socket: Socket;
  readonly #arrived = new Map<FrameKind, Uint8Array[]>();
  readonly #waiters = new Map<FrameKind, Waiter[]>();
  readonly #onClosed: ((reason: RuntimeError) => void)[] = [];
  #trusted = false;
  #closed: RuntimeError | undefined;
  #failure: string | undefined;
  #header = Buffer.alloc(headerBytes);
  #filled = 0;
  #kind: FrameKind | undefined;
  #body = new Uint8Array(0);

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', (thrown) => {
      this.#failure ??= messageOf(thrown);
    });
    socket.on('close', () => this.#end(this.#failure ?? 'it closed the connection'));
  }

  /** The other end has shown that it belongs to the group: from now on it may send large frames. */
  trust(peer: number): void {
    this.peer = peer;
    this.#trusted = true;
  }

  get localAddress(): string | undefined {
    return this.#socket.localAddress;
  }

  get remoteAddress(): string | undefined {
    return this.#socket.remoteAddress;
  }

  /** Sends a frame; to a closed link it is dropped, as the link's listeners know. */
  send(kind: FrameKind, body: Uint8Array): void {
    if (this.#closed) return;
    const header = Buffer.alloc(headerBytes);
    header.writeUInt32LE(magic, 0);
    header.writeUInt32LE(frameKinds[kind], 4);
    header.writeUInt32LE(body.byteLength, 8);
    this.#socket.cork();
    this.#socket.write(header);
    if (body.byteLength > 0) this.#socket.write(body);
    this.#socket.uncork();
    if (this.#socket.writableLength <= unreadBytesMax) return;
    this.#failure ??= `it left more than ${unreadBytesMax} bytes unread (unreadBytesMax)`;
    this.#socket.destroy();
  }

  sendJson(kind: FrameKind, value: unknown): void {
    this.send(kind, Buffer.from(JSON.stringify(value)));
  }

  /**
   * The next frame of a kind.
   * @throws RuntimeError `RANK_LOST` when the connection ends first
   */
  next(kind: FrameKind): Promise<Uint8Array> {
    const waiting = this.#arrived.get(kind)?.shift();
    if (waiting) return Promise.resolve(waiting);
    if (this.#closed) return Promise.reject(this.#closed);
    return new Promise((resolve, reject) => {
      const waiters = this.#waiters.get(kind) ?? [];
      this.#waiters.set(kind, waiters);
      waiters.push({ resolve, reject });
    });
  }

  async nextJson(kind: FrameKind): Promise<unknown> {
    return parseJson(await this.next(kind));
  }

  /** Calls `listener` when the connection ends, or at once if it has. */
  onClosed(listener: (reason: RuntimeError) => void): void {
    if (this.#closed) listener(this.#closed);
    else this.#onClosed.push(listener);
  }

  /** Ends the connection when what was sent is on its way. */
  close(reason?: string): void {
    this.#failure ??= reason;
    this.#socket.end();
    this.#socket.destroySoon();
  }

  #receive(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length || this.#kind !== undefined) {
      if (this.#kind === undefined) {
        const count = Math.min(headerBytes - this.#filled, chunk.length - at);
        chunk.copy(this.#header, this.#filled, at, at + count);
        this.#filled += count;
        at += count;
        if (this.#filled < headerBytes) return;
        if (!this.#begin()) return;
      } else {
        const count = Math.min(this.#body.length - this.#filled, chunk.length - at);
        this.#body.set(chunk.subarray(at, at + count), this.#filled);
        this.#filled += count;
        at += count;
        if (this.#filled < this.#body.length) return;
        this.#deliver(this.#kind, this.#body);
        this.#kind = undefined;
        this.#filled = 0;
      }
    }
  }

  /** @returns whether the header is one of a rank's */
  #begin(): boolean {
    const kind = kindNames.get(this.#header.readUInt32LE(4));
    const bytes = this.#header.readUInt32LE(8);
    const bytesMax =
      kind !== undefined && binaryKinds.has(kind) && this.#trusted ? frameBytesMax : jsonBytesMax;
    if (this.#header.readUInt32LE(0) !== magic || kind === undefined || bytes > bytesMax) {
      this.#failure ??= 'it sent what no rank sends';
      this.#socket.destroy();
      return false;
    }
    this.#kind = kind;
    this.#body = new Uint8Array(bytes);
    this.#filled = 0;
    return true;
  }

  #deliver(kind: FrameKind, body: Uint8Array): void {
    const waiter = this.#waiters.get(kind)?.shift();
    if (waiter) {
      waiter.resolve(body);
      return;
    }
    const arrived = this.#arrived.get(kind) ?? [];
    this.#arrived.set(kind, arrived);
    arrived.push(body);
    if (arrived.length <= waitingFramesMax) return;
    this.#failure ??= `more than ${waitingFramesMax} of its '${kind}' messages wait (waitingFramesMax)`;
    this.#socket.destroy();
  }

  #end(problem: string): void {
    if (this.#closed) return;
    const who = this.peer < 0 ? 'a rank' : `rank ${this.peer}`;
    const reason = new RuntimeError(
      'RANK_LOST',
      `${who} of the engine is lost: ${problem}; the group restarts`,
    );
    this.#closed = reason;
    for (const waiters of this.#waiters.values()) for (const { reject } of waiters) reject(reason);
    this.#waiters.clear();
    for (const listener of this.#onClosed) listener(reason);
  }
}

/** @throws RuntimeError `RANK_MESSAGE_INVALID` */
export function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString('utf8'));
  } catch (cause) {
    throw new RuntimeError(
      'RANK_MESSAGE_INVALID',
      `a message between ranks is no JSON: ${messageOf(cause)}`,
      { cause },
    );
  }
}

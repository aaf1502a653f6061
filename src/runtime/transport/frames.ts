import type { Socket } from 'node:net';
import { deserialize, serialize } from 'node:v8';
import { messageOf } from '../../base/errors.ts';
import { RuntimeError } from '../errors.ts';

/** Largest message between a front end and an engine; a longer one is a bug or a stranger on the socket. */
export const frameBytesMax = 64 * 1024 * 1024;

const headerBytes = 4;

/**
 * Length-prefixed values over a stream socket (u32 little-endian, then the value in V8's structured-clone format: typed arrays stay
 * typed arrays, and it is the fastest codec that Node ships). Both ends are the same build of Nereid.
 * @throws RuntimeError `REQUEST_TOO_LARGE` for a value over {@link frameBytesMax}: send it in parts, or not at all
 */
export function writeFrame(socket: Socket, value: unknown): boolean {
  const body = serialize(value);
  if (body.length > frameBytesMax) {
    const problem = `${body.length} bytes do not fit one message between server and engine (${frameBytesMax})`;
    throw new RuntimeError('REQUEST_TOO_LARGE', `${problem}; ask for less in one request`);
  }
  const frame = Buffer.allocUnsafe(headerBytes + body.length);
  frame.writeUInt32LE(body.length, 0);
  body.copy(frame, headerBytes);
  return socket.write(frame);
}

/**
 * Sends items in as few frames as hold them: all in one, else in halves, again and again.
 * @param message makes a frame's value of some of the items
 * @param onUnsendable an item that fits no frame even alone
 */
export function writeInFrames<T>(
  socket: Socket,
  items: readonly T[],
  message: (items: readonly T[]) => unknown,
  onUnsendable: (item: T, error: RuntimeError) => void,
): void {
  try {
    writeFrame(socket, message(items));
  } catch (thrown) {
    if (!(thrown instanceof RuntimeError)) throw thrown;
    const middle = items.length >> 1;
    const first = items[0];
    if (middle === 0 && first !== undefined) onUnsendable(first, thrown);
    for (const half of middle === 0 ? [] : [items.slice(0, middle), items.slice(middle)]) {
      writeInFrames(socket, half, message, onUnsendable);
    }
  }
}

/** Calls `onValue` for each whole frame that arrives; a frame over {@link frameBytesMax} or undecodable destroys the socket. */
export function readFrames(socket: Socket, onValue: (value: unknown) => void): void {
  let chunks: Buffer[] = [];
  let gathered = 0;
  let wanted = headerBytes;
  const fail = (problem: string): void => {
    chunks = [];
    socket.destroy(new Error(problem));
  };
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    gathered += chunk.length;
    // Joined only once a frame is whole: a large one comes in a thousand chunks.
    if (gathered < wanted) return;
    let pending = chunks.length === 1 ? chunk : Buffer.concat(chunks);
    wanted = headerBytes;
    while (pending.length >= headerBytes) {
      const bodyBytes = pending.readUInt32LE(0);
      if (bodyBytes > frameBytesMax) {
        fail(`a frame of ${bodyBytes} bytes is over frameBytesMax (${frameBytesMax})`);
        return;
      }
      wanted = headerBytes + bodyBytes;
      if (pending.length < wanted) break;
      const body = pending.subarray(headerBytes, wanted);
      pending = pending.subarray(wanted);
      wanted = headerBytes;
      let value: unknown;
      try {
        value = deserialize(body);
      } catch (thrown) {
        fail(`a frame does not decode: ${messageOf(thrown)}`);
        return;
      }
      onValue(value);
      // It may have been something that nobody should send.
      if (socket.destroyed) {
        chunks = [];
        return;
      }
    }
    chunks = pending.length > 0 ? [pending] : [];
    gathered = pending.length;
  });
}

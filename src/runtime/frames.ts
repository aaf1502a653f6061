import type { Socket } from 'node:net';
import { deserialize, serialize } from 'node:v8';
import { assert } from '../base/errors.ts';

/** Largest message between a front end and an engine; a longer one is a bug or a stranger on the socket. */
export const frameBytesMax = 64 * 1024 * 1024;

const headerBytes = 4;

/**
 * Length-prefixed values over a stream socket (u32 little-endian, then the value in V8's structured-clone format: typed arrays stay
 * typed arrays, and it is the fastest codec that Node ships). Both ends are the same build of Nereid.
 */
export function writeFrame(socket: Socket, value: unknown): boolean {
  const body = serialize(value);
  assert(body.length <= frameBytesMax, `a frame of ${body.length} bytes is over frameBytesMax`);
  const frame = Buffer.allocUnsafe(headerBytes + body.length);
  frame.writeUInt32LE(body.length, 0);
  body.copy(frame, headerBytes);
  return socket.write(frame);
}

/** Calls `onValue` for each whole frame that arrives; a frame over {@link frameBytesMax} or undecodable destroys the socket. */
export function readFrames(socket: Socket, onValue: (value: unknown) => void): void {
  let pending: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    let offset = 0;
    while (pending.length - offset >= headerBytes) {
      const bodyBytes = pending.readUInt32LE(offset);
      if (bodyBytes > frameBytesMax) {
        socket.destroy(new Error(`a frame of ${bodyBytes} bytes is over frameBytesMax (${frameBytesMax})`));
        return;
      }
      const end = offset + headerBytes + bodyBytes;
      if (pending.length < end) break;
      const body = pending.subarray(offset + headerBytes, end);
      offset = end;
      onValue(deserialize(body));
    }
    pending = offset === 0 ? pending : pending.subarray(offset);
  });
}

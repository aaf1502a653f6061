import type { Hash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';

/** What is hashed in one turn of the event loop: a millisecond's work. */
const hashedBytesMax = 1024 * 1024;

/** Hashes what may be large, a piece a turn of the event loop. */
export async function hashInTurns(hash: Hash, values: ArrayBufferView): Promise<void> {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  for (let at = 0; at < bytes.length; at += hashedBytesMax) {
    hash.update(bytes.subarray(at, at + hashedBytesMax));
    if (bytes.length > hashedBytesMax) await setImmediate();
  }
}

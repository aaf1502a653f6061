import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';

const readBytes = 4 * 1024 * 1024;

/**
 * The SHA-256 of a file, in lower-case hex. Does not block the event loop for longer than one chunk.
 * @param onBytes told after every chunk how many bytes it had
 */
export async function sha256File(
  path: string,
  options: { onBytes?: (bytes: number) => void; signal?: AbortSignal } = {},
): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(readBytes);
  const file = await open(path, 'r');
  try {
    for (;;) {
      options.signal?.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, readBytes, null);
      if (bytesRead === 0) return hash.digest('hex');
      hash.update(buffer.subarray(0, bytesRead));
      options.onBytes?.(bytesRead);
    }
  } finally {
    await file.close();
  }
}

/** The SHA-256 of a text, in lower-case hex. */
export function sha256Text(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** A folder that goes when the test ends, with the given files in it. */
export function temporaryFolder(t: TestContext, files: Record<string, string | Uint8Array> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-checkpoint-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return folder;
}

export const u8 = (value: number) => Buffer.from([value]);

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** A GGUF string: length, then bytes. */
export function text(value: string): Buffer {
  return Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
}

export interface RawGguf {
  version?: number;
  tensorCount?: number | bigint;
  entryCount?: number | bigint;
  /** Encoded key-value pairs. */
  entries?: Buffer[];
  /** Encoded tensor descriptions. */
  tensors?: Buffer[];
  /** After padding to 32. */
  data?: Buffer;
}

/** A GGUF written by hand, so that it can be wrong. */
export function rawGguf(parts: RawGguf): Buffer {
  const { version = 3, entries = [], tensors = [], data = Buffer.alloc(0) } = parts;
  const head = Buffer.concat([
    Buffer.from('GGUF'),
    u32(version),
    u64(parts.tensorCount ?? tensors.length),
    u64(parts.entryCount ?? entries.length),
    ...entries,
    ...tensors,
  ]);
  const padding = Buffer.alloc((32 - (head.length % 32)) % 32);
  return Buffer.concat([head, padding, data]);
}

/** A tensor description. `sizes` innermost first, as in the file. */
export function tensorInfo(
  name: string,
  sizes: (number | bigint)[],
  type: number,
  offset: number | bigint,
): Buffer {
  return Buffer.concat([text(name), u32(sizes.length), ...sizes.map(u64), u32(type), u64(offset)]);
}

/** A safetensors file of any header text, with the data behind it. */
export function rawSafetensors(
  header: unknown,
  data = Buffer.alloc(0),
  headerBytes?: number | bigint,
): Buffer {
  const content = typeof header === 'string' ? Buffer.from(header) : Buffer.from(JSON.stringify(header));
  return Buffer.concat([u64(headerBytes ?? content.length), content, data]);
}

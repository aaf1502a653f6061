import { createWriteStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createInflateRaw } from 'node:zlib';
import { ArtifactError } from './errors.ts';

// Takes one file out of a wheel. Node inflates; what is left is finding the entry, so no library is worth its weight here. What comes
// out is checked against a known SHA-256 by the caller. Layout: PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16.

const endSignature = 0x06054b50;
const centralSignature = 0x02014b50;
const localSignature = 0x04034b50;
const endBytes = 22;
const centralBytes = 46;
const localBytes = 30;
const commentBytesMax = 0xffff;
/** A wheel's table of contents is a few kilobytes. */
const directoryBytesMax = 64 * 1024 * 1024;
const stored = 0;
const deflated = 8;

interface ZipEntry {
  method: number;
  compressedBytes: number;
  bytes: number;
  headerOffset: number;
}

/**
 * Streams one entry of a zip archive to a file.
 * @param onBytes told how many bytes each chunk had, unpacked
 * @throws ArtifactError ARCHIVE_INVALID for anything but a plain zip that has the entry
 */
export async function unzipEntry(
  archive: string,
  name: string,
  target: string,
  onBytes: (bytes: number) => void = () => {},
  signal?: AbortSignal,
): Promise<void> {
  const file = await open(archive, 'r');
  try {
    const entry = findIn(await readDirectory(file, archive), name, archive);
    const local = await readAt(file, archive, entry.headerOffset, localBytes);
    if (local.readUInt32LE(0) !== localSignature) throw invalid(archive, `the entry '${name}' has no header`);
    const start = entry.headerOffset + localBytes + local.readUInt16LE(26) + local.readUInt16LE(28);
    const end = start + entry.compressedBytes - 1;
    const source = file.createReadStream({ start, end, autoClose: false });
    // Where the rest of the chain fails first, the handle is closed below all the same.
    source.on('error', () => {});
    const counter = limitTo(entry.bytes, archive, name, onBytes);
    const sink = createWriteStream(target, { flags: 'w' });
    const stages = entry.method === stored ? [source] : [source, createInflateRaw()];
    await pipeline([...stages, counter, sink], { signal }).catch((thrown: NodeJS.ErrnoException) => {
      throw thrown.code?.startsWith('Z_')
        ? invalid(archive, `'${name}' does not unpack (${thrown.code})`)
        : thrown;
    });
  } finally {
    await file.close();
  }
}

/** Passes bytes on, but no more and no fewer than the archive announced. */
function limitTo(bytes: number, archive: string, name: string, onBytes: (bytes: number) => void): Transform {
  let seen = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      seen += chunk.length;
      onBytes(chunk.length);
      done(seen > bytes ? invalid(archive, `the entry '${name}' is longer than announced`) : null, chunk);
    },
    flush(done) {
      done(seen < bytes ? invalid(archive, `the entry '${name}' is shorter than announced`) : null);
    },
  });
}

function invalid(archive: string, problem: string): ArtifactError {
  return new ArtifactError(
    'ARCHIVE_INVALID',
    `${archive}: ${problem}; remove the file and download it again`,
  );
}

async function readAt(file: FileHandle, archive: string, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await file.read(buffer, 0, length, position);
  if (bytesRead !== length) throw invalid(archive, 'it ends too early');
  return buffer;
}

/** The central directory: one record an entry. */
async function readDirectory(file: FileHandle, archive: string): Promise<Buffer> {
  const { size } = await file.stat();
  const tailBytes = Math.min(size, endBytes + commentBytesMax);
  const tail = await readAt(file, archive, size - tailBytes, tailBytes);
  for (let at = tail.length - endBytes; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== endSignature) continue;
    const length = tail.readUInt32LE(at + 12);
    const offset = tail.readUInt32LE(at + 16);
    if (length > directoryBytesMax || offset + length > size)
      throw invalid(archive, 'its directory is damaged');
    return readAt(file, archive, offset, length);
  }
  throw invalid(archive, 'it is no zip archive');
}

function findIn(directory: Buffer, name: string, archive: string): ZipEntry {
  for (let at = 0; at + centralBytes <= directory.length; ) {
    if (directory.readUInt32LE(at) !== centralSignature) throw invalid(archive, 'its directory is damaged');
    const nameBytes = directory.readUInt16LE(at + 28);
    const next =
      at + centralBytes + nameBytes + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
    if (directory.toString('utf8', at + centralBytes, at + centralBytes + nameBytes) === name) {
      return checkedEntry(directory.subarray(at), name, archive);
    }
    at = next;
  }
  throw invalid(archive, `it has no entry '${name}'`);
}

function checkedEntry(record: Buffer, name: string, archive: string): ZipEntry {
  const method = record.readUInt16LE(10);
  if (method !== stored && method !== deflated)
    throw invalid(archive, `'${name}' is packed by method ${method}`);
  const compressedBytes = record.readUInt32LE(20);
  const bytes = record.readUInt32LE(24);
  const headerOffset = record.readUInt32LE(42);
  if ([compressedBytes, bytes, headerOffset].includes(0xffffffff))
    throw invalid(archive, 'it is a zip64 archive');
  if ((record.readUInt16LE(8) & 1) === 1) throw invalid(archive, `'${name}' is encrypted`);
  return { method, compressedBytes, bytes, headerOffset };
}

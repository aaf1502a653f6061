import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate } from 'node:zlib';
import { messageOf } from '../base/errors.ts';
import { ProtocolError } from './errors.ts';
import { Gate } from './gate.ts';
import { unpackingMax } from './limits.ts';

/** Over all protocols: the threads that unpack are the process's, too. What comes to little never waits for what may come to much. */
const unpacking = { little: new Gate(unpackingMax.little), much: new Gate(unpackingMax.much) };
/** No deflated byte comes to more (zlib's own figure); what brotli makes of one has no such bound. */
const deflatedRatioMax = 1032;
const littleBytesMax = 8 * 1024 * 1024;

type Decoder = (bytes: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>;

/** By `Content-Encoding`. They run on Node's thread pool, off the event loop. */
const decoders: Readonly<Record<string, Decoder>> = {
  gzip: promisify(gunzip),
  'x-gzip': promisify(gunzip),
  deflate: promisify(inflate),
  br: promisify(brotliDecompress),
};

/**
 * A request's body without its `Content-Encoding`.
 * @param bytesMax of the decoded body: a few kilobytes may stand for gigabytes
 * @throws ProtocolError CONTENT_ENCODING_UNSUPPORTED, BODY_INVALID (not what the header says), BODY_TOO_LARGE
 */
export async function decodeBody(
  bytes: Buffer,
  contentEncoding: string | undefined,
  bytesMax: number,
): Promise<Buffer> {
  const encoding = contentEncoding?.trim().toLowerCase() ?? 'identity';
  if (encoding === 'identity' || encoding === '') return bytes;
  const decode = Object.hasOwn(decoders, encoding) ? decoders[encoding] : undefined;
  if (!decode) {
    const known = Object.keys(decoders).join(', ');
    const message = `a body of content-encoding '${encoding.slice(0, 40)}' cannot be read; send it plain, or as one of ${known}`;
    throw new ProtocolError('CONTENT_ENCODING_UNSUPPORTED', message);
  }
  try {
    const isLittle = encoding !== 'br' && bytes.length * deflatedRatioMax <= littleBytesMax;
    return await unpacking[isLittle ? 'little' : 'much'].run(() =>
      decode(bytes, { maxOutputLength: bytesMax }),
    );
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw bodyTooLarge(bytesMax);
    const message = `the body is not the ${encoding} that its content-encoding says: ${messageOf(cause)}`;
    throw new ProtocolError('BODY_INVALID', message, { cause });
  }
}

/** 413, with the limit in words. */
export function bodyTooLarge(bytesMax: number): ProtocolError {
  const message = `the request body is over this server's ${bytesMax} bytes; send less in one request`;
  return new ProtocolError('BODY_TOO_LARGE', message);
}

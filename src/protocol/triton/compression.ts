import { promisify } from 'node:util';
import { deflate, gzip } from 'node:zlib';
import { RepositoryError } from '../../repository/errors.ts';
import { decodeBody } from '../body-encoding.ts';
import { ProtocolError } from '../errors.ts';

const encoders = { gzip: promisify(gzip), deflate: promisify(deflate) };

type Encoding = keyof typeof encoders;

/**
 * A request's body, unpacked.
 * @param bytesMax of the unpacked body
 * @throws RepositoryError in tritonserver's words
 */
export async function decompressed(
  body: Buffer,
  encoding: string | undefined,
  bytesMax: number,
): Promise<Buffer> {
  if (encoding === undefined || encoding === 'identity') return body;
  if (!Object.hasOwn(encoders, encoding))
    throw new RepositoryError('UNSUPPORTED', 'Unsupported compression type');
  if (body.length === 0) throw new RepositoryError('INVALID_ARGUMENT', 'nothing to be decompressed');
  try {
    return await decodeBody(body, encoding, bytesMax);
  } catch (cause) {
    const isTooLarge = cause instanceof ProtocolError && cause.code === 'BODY_TOO_LARGE';
    const message = isTooLarge
      ? `the request unpacks to more than ${bytesMax} bytes; send less in one request`
      : 'encountered inconsistent stream state during decompression';
    throw new RepositoryError('INVALID_ARGUMENT', message, { cause });
  }
}

/** What an Accept-Encoding header prefers of what we have, the first of equals; what is refused with q=0 does not count. */
export function acceptedEncoding(header: string | undefined): Encoding | undefined {
  let best: Encoding | undefined;
  let bestQuality = 0;
  for (const one of (header ?? '').split(',')) {
    const [name = '', ...weights] = one.split(';').map((part) => part.trim());
    if (!Object.hasOwn(encoders, name)) continue;
    const quality = Number(weights.find((weight) => weight.startsWith('q='))?.slice(2) ?? 1);
    if (!(quality > bestQuality)) continue;
    best = name as Encoding;
    bestQuality = quality;
  }
  return best;
}

/** A response's body, packed. */
export function compressed(body: Buffer | string, encoding: Encoding): Promise<Buffer> {
  return encoders[encoding](body);
}

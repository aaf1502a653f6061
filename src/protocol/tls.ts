import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { messageOf } from '../base/errors.ts';
import { ProtocolError } from './errors.ts';

/** The files that a port's encryption is made of, the same for every port of a server. PEM. */
export interface TlsOptions {
  /** The server's certificate, followed by the chain up to its authority. */
  certificateFile: string;
  /** The private key of the certificate, without a passphrase. */
  keyFile: string;
  /** Authorities of client certificates; with it a client must show one of theirs. */
  clientAuthorityFile?: string;
}

/** {@link TlsOptions} as read. The field names are those of `node:tls`. */
export interface TlsMaterial {
  cert: Buffer;
  key: Buffer;
  ca?: Buffer;
  /** Both true with client authorities: a stranger does not get past the handshake. */
  requestCert: boolean;
  rejectUnauthorized: boolean;
}

/** Older ones are broken; every client of the last ten years speaks 1.2. */
export const tlsVersionMin = 'TLSv1.2';

/**
 * Reads and checks the files, so that a wrong one is an error at start and not at the first handshake.
 * @throws ProtocolError TLS_INVALID with the file at fault
 */
export async function readTls(options: TlsOptions): Promise<TlsMaterial> {
  const [cert, key] = await Promise.all([read(options.certificateFile), read(options.keyFile)]);
  const ca = options.clientAuthorityFile === undefined ? undefined : await read(options.clientAuthorityFile);
  checked(options.certificateFile, { cert });
  checked(options.keyFile, { key });
  if (ca && options.clientAuthorityFile) {
    if (!ca.includes('-----BEGIN CERTIFICATE-----'))
      throw invalid(options.clientAuthorityFile, 'it holds no certificate');
    checked(options.clientAuthorityFile, { ca });
  }
  checked(`${options.keyFile} with ${options.certificateFile}`, { cert, key });
  return { cert, key, ca, requestCert: ca !== undefined, rejectUnauthorized: ca !== undefined };
}

async function read(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw invalid(file, messageOf(cause), cause);
  }
}

function checked(file: string, parts: { cert?: Buffer; key?: Buffer; ca?: Buffer }): void {
  try {
    createSecureContext(parts);
  } catch (cause) {
    throw invalid(file, messageOf(cause), cause);
  }
}

function invalid(file: string, reason: string, cause?: unknown): ProtocolError {
  const fix = 'give PEM files: a certificate chain and its unencrypted private key';
  return new ProtocolError('TLS_INVALID', `TLS cannot be set up with ${file}: ${reason}; ${fix}`, { cause });
}

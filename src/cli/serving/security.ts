import { type ApiKey, plainKeys } from '../../protocol/authentication.ts';
import { readTls, type TlsMaterial, type TlsOptions } from '../../protocol/tls.ts';
import { readKeyFile } from './key-file.ts';

/** Who may talk to the server, and how. */
export interface SecurityOptions {
  /** Bearer tokens without limits, from the command line or the environment. */
  apiKeys: string[];
  /** A file of named keys with limits, read again on SIGHUP. */
  apiKeyFile?: string;
  /** Web origins that may read answers; `*` for all. */
  corsOrigins: string[];
  /** Undefined: plain text. The files are read again on SIGHUP. */
  tls?: TlsOptions;
}

/** {@link SecurityOptions} with its files read. */
export interface Security {
  /** Empty: no key is asked for. */
  keys: ApiKey[];
  corsOrigins: string[];
  tls?: TlsMaterial;
}

/** @throws CliError API_KEYS_INVALID; ProtocolError TLS_INVALID */
export async function readSecurity(options: SecurityOptions): Promise<Security> {
  const named = options.apiKeyFile === undefined ? [] : await readKeyFile(options.apiKeyFile);
  return {
    keys: [...plainKeys(options.apiKeys), ...named],
    corsOrigins: options.corsOrigins,
    tls: options.tls && (await readTls(options.tls)),
  };
}

/** Whether SIGHUP means something. */
export function isReloadable({ apiKeyFile, tls }: SecurityOptions): boolean {
  return apiKeyFile !== undefined || tls !== undefined;
}

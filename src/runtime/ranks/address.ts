import type { Server } from 'node:net';
import { RuntimeError } from '../errors.ts';

/** Where a rank listens: a Unix-domain socket (a named pipe on Windows), or a port. */
export type RankAddress = { path: string } | { host: string; port: number };

const portMax = 65_535;

/**
 * Reads `host:port` (`[::1]:port` for IPv6), as `--leader` takes it.
 * @throws RuntimeError `OPTIONS_INVALID`
 */
export function parseAddress(text: string): RankAddress {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host !== undefined && port >= 1 && port <= portMax) return { host, port };
  const fix = 'give host:port, as in --leader 10.0.0.1:29500';
  throw new RuntimeError('OPTIONS_INVALID', `'${text}' is no address of a leader; ${fix}`);
}

/** As people write it. */
export function addressText(address: RankAddress): string {
  if ('path' in address) return address.path;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/**
 * Starts listening.
 * @returns where: the port that the system chose, if it was 0
 */
export function listenAt(server: Server, address: RankAddress): Promise<RankAddress> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, () => {
      server.off('error', reject);
      const bound = server.address();
      resolve(
        'path' in address || bound === null || typeof bound === 'string'
          ? address
          : { host: address.host, port: bound.port },
      );
    });
  });
}

import { once } from 'node:events';
import { createServer } from 'node:net';
import { messageOf } from '../../base/errors.ts';
import { CliError } from '../errors.ts';
import type { ServeOptions } from './options.ts';

/** Fails before anything is downloaded or loaded where a port is taken. @throws CliError PORT_IN_USE, PORT_UNAVAILABLE */
export async function checkPorts(options: ServeOptions): Promise<void> {
  const { host, httpPort, grpcPort, britonPort, metricsPort } = options;
  const asked = {
    '--http-port': httpPort,
    '--grpc-port': grpcPort,
    '--briton-port': britonPort,
    '--metrics-port': metricsPort,
  };
  for (const [flag, port] of Object.entries(asked)) {
    if (port === undefined || port === 0) continue;
    const server = createServer();
    try {
      server.listen({ host, port, exclusive: true });
      await once(server, 'listening');
    } catch (thrown) {
      throw portError(thrown, flag, port);
    }
    server.close();
    await once(server, 'close');
  }
}

/** Why a port cannot be listened on, with the fix. */
export function portError(thrown: unknown, flag: string, port: number): CliError {
  const inUse = /EADDRINUSE|address already in use/i.test(messageOf(thrown));
  const message = inUse
    ? `port ${port} is in use; stop what listens there, or give another ${flag} (0 picks a free one)`
    : `cannot listen on port ${port}: ${messageOf(thrown)}; give another ${flag} or --host`;
  return new CliError(inUse ? 'PORT_IN_USE' : 'PORT_UNAVAILABLE', message, { cause: thrown, usage: false });
}

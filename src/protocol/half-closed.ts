import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** When a half-closed client is asked whether it is still there: soon, then now and then. Milliseconds after the one before. */
const probeDelaysMs = [0, 20, 100, 1_000] as const;

/** A connection that may be closed from its other side alone. */
export interface HalfClosable {
  readonly socket: Socket;
  /** Answers that are under way or wait for their turn. */
  readonly responses: ReadonlySet<ServerResponse>;
}

/**
 * A client that ended its side of the connection may have left, or may still wait for its answer (`nc -N`, some proxies): TCP does not
 * say which. What is written to one that left comes back as a reset, so an interim response (`102 Processing`, which clients skip) is
 * sent while its answer is not begun; a reset closes the socket, and that cancels the request. Streams write by themselves.
 */
export function probeHalfClosed(connection: HalfClosable): void {
  const { socket } = connection;
  socket.once('end', () => {
    let probes = 0;
    const next = (): void => {
      const delayMs = probeDelaysMs[Math.min(probes++, probeDelaysMs.length - 1)];
      setTimeout(probe, delayMs).unref();
    };
    const probe = (): void => {
      if (socket.destroyed) return;
      const response = current(connection);
      // Nobody waits, or HTTP/1.0, which knows no interim responses.
      if (connection.responses.size === 0 || (response && response.req.httpVersionMinor === 0)) {
        socket.destroySoon();
        return;
      }
      if (response && !response.headersSent) response.writeProcessing();
      next();
    };
    next();
  });
}

/** The response whose turn it is. */
function current({ responses }: HalfClosable): ServerResponse | undefined {
  for (const response of responses) if (response.socket) return response;
  return undefined;
}

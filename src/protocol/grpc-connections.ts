import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { listenBacklog } from './limits.ts';
import type { Placed, SocketPlaces } from './socket-places.ts';

/**
 * The port of a gRPC server. grpc-js would accept connections without end and never close one on which nothing is asked; accepted here, they
 * share the places of all of the process's clients.
 */
export class GrpcConnections {
  readonly #places: SocketPlaces;
  readonly #servers: Server[] = [];
  readonly #connections = new Map<string, Connection>();
  readonly #onSocket: (socket: Socket) => void;

  /** @param onSocket takes each connection that has a place */
  constructor(places: SocketPlaces, onSocket: (socket: Socket) => void) {
    this.#places = places;
    this.#onSocket = onSocket;
  }

  /** Listens on every address that the host has. @returns the port @throws Error `EADDRINUSE` and the like */
  async listen(host: string, port: number): Promise<number> {
    let bound = port;
    for (const { address } of await lookup(host, { all: true })) {
      const server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
      this.#servers.push(server);
      server.listen({ host: address, port: bound, backlog: listenBacklog });
      await once(server, 'listening');
      bound = (server.address() as AddressInfo).port;
    }
    return bound;
  }

  /** A call begins on the connection of that peer (`address:port`). @returns what is to be called when it ends */
  begin(peer: string): () => void {
    const connection = this.#connections.get(peer);
    if (!connection) return () => {};
    if (connection.calls++ === 0) this.#places.setWaiting(connection, false);
    return () => {
      if (--connection.calls === 0) this.#places.setWaiting(connection, true);
    };
  }

  /** Takes no more connections; those that are open stay. */
  close(): void {
    for (const server of this.#servers) server.close();
  }

  #accept(socket: Socket): void {
    const connection = new Connection(socket);
    if (!this.#places.take(connection)) {
      socket.destroy();
      return;
    }
    this.#connections.set(connection.peer, connection);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => {
      this.#places.leave(connection);
      this.#connections.delete(connection.peer);
    });
    this.#onSocket(socket);
  }
}

class Connection implements Placed {
  readonly address: string;
  /** As grpc-js names it. */
  readonly peer: string;
  calls = 0;
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.address = socket.remoteAddress ?? '';
    this.peer = `${this.address}:${socket.remotePort}`;
  }

  evict(): void {
    this.#socket.destroy();
  }
}

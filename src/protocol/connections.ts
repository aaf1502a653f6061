import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ByteBudget, ByteHolder } from './byte-budget.ts';
import type { ClientBounds } from './client-bounds.ts';
import { probeHalfClosed } from './half-closed.ts';
import type { Placed, SocketPlaces } from './socket-places.ts';

/** Bounds of {@link Connections}. */
export interface ConnectionsOptions {
  pipelinedRequestsMax: number;
  /** What clients may take, over all ports. */
  bounds: Pick<ClientBounds, 'answers' | 'places'>;
}

/** A client's socket and the responses under way on it. */
export class Connection implements ByteHolder, Placed {
  /** The one that HTTP is spoken over: after a TLS handshake not the one that was accepted. */
  socket: Socket;
  readonly address: string;
  /** Responses that are not closed. */
  readonly responses = new Set<ServerResponse>();
  /** How many of them have their whole request here. */
  askedCount = 0;
  /** Bytes of large answers that are handed to the socket piece by piece. */
  pendingBytes = 0;
  readonly #answers: ByteBudget;

  constructor(socket: Socket, answers: ByteBudget) {
    this.socket = socket;
    this.address = socket.remoteAddress ?? '';
    this.#answers = answers;
  }

  get heldBytes(): number {
    let bytes = this.pendingBytes + this.socket.writableLength;
    // A pipelined response that is not yet its turn keeps what it has to say itself.
    for (const response of this.responses) if (!response.socket) bytes += response.writableLength;
    return bytes;
  }

  get movedBytes(): number {
    return this.socket.bytesWritten - this.socket.writableLength;
  }

  /** To be called after writing: counts what the client has not read. */
  account(): void {
    this.#answers.update(this);
  }

  cut(): void {
    this.socket.destroy();
  }

  evict(): void {
    this.socket.destroy();
  }
}

const connectionOfSocket = new WeakMap<Socket, Connection>();

/** The connection that a request or response came over; undefined where there is none (fastify's `inject`). */
export function connectionOf(socket: Socket | null): Connection | undefined {
  return socket ? connectionOfSocket.get(socket) : undefined;
}

/** The open connections of an HTTP server. */
export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #connections = new Set<Connection>();
  /** Accepted, but TLS is not agreed yet: by remote port and address, which no other open connection has. */
  readonly #inHandshake = new Map<string, Connection>();
  #closing = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** @param secure whether the server speaks TLS */
  watch(server: Server, secure: boolean): void {
    // A client that says "no more from me" may still listen; see half-closed.ts for the ones that left.
    (server as Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true;
    server.on('connection', (socket: Socket) => this.#open(socket, secure));
    server.on('secureConnection', (socket: Socket) => {
      const connection = this.#inHandshake.get(peerOf(socket));
      if (!connection) return;
      connection.socket = socket;
      connectionOfSocket.set(socket, connection);
      socket.once('close', () => this.#closed(connection));
      probeHalfClosed(connection);
    });
  }

  get #places(): SocketPlaces {
    return this.#options.bounds.places;
  }

  /** A request's headers are here. @returns false when too many of this connection wait for their answers */
  begin(request: IncomingMessage, response: ServerResponse): boolean {
    const connection = connectionOf(request.socket);
    if (!connection) return true;
    const isRoom = connection.responses.size < this.#options.pipelinedRequestsMax;
    connection.responses.add(response);
    let asked = false;
    const onAsked = (): void => {
      asked = true;
      connection.askedCount++;
      this.#places.setWaiting(connection, false);
    };
    if (hasBody(request)) request.once('end', onAsked);
    else onAsked();
    response.once('close', () => {
      request.off('end', onAsked);
      connection.responses.delete(response);
      if (asked) connection.askedCount--;
      if (this.#closing && connection.responses.size === 0) connection.socket.destroy();
      else if (connection.askedCount === 0) this.#places.setWaiting(connection, true);
    });
    return isRoom;
  }

  /** Whether part of a response is on the wire, so that nothing else may be said there. */
  isResponding(socket: Socket): boolean {
    for (const response of connectionOf(socket)?.responses ?? []) if (response.headersSent) return true;
    return false;
  }

  /**
   * Closes the sockets without a request now, and each of the others once its answers are sent. Node's own `closeIdleConnections`
   * leaves those on which nothing was ever asked, and those that fall idle later, to the keep-alive timeout.
   */
  closeWhenIdle(): void {
    this.#closing = true;
    for (const { responses, socket } of this.#connections) if (responses.size === 0) socket.destroy();
  }

  #open(socket: Socket, secure: boolean): void {
    const connection = new Connection(socket, this.#options.bounds.answers);
    if (!this.#places.take(connection)) {
      socket.destroy();
      return;
    }
    this.#connections.add(connection);
    connectionOfSocket.set(socket, connection);
    const peer = peerOf(socket);
    if (secure) this.#inHandshake.set(peer, connection);
    else probeHalfClosed(connection);
    socket.once('close', () => {
      this.#inHandshake.delete(peer);
      this.#closed(connection);
    });
  }

  #closed(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    this.#places.leave(connection);
    this.#options.bounds.answers.remove(connection);
    // Node tells only the response whose turn it is that the socket is gone; the others would run on for nobody.
    for (const response of [...connection.responses]) {
      if (response.socket) continue;
      response.destroy();
      response.emit('close');
    }
  }
}

function peerOf(socket: Socket): string {
  return `${socket.remotePort} ${socket.remoteAddress}`;
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

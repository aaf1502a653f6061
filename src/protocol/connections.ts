import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** The open sockets of an HTTP server with the responses under way on each. */
export class Connections {
  readonly #responses = new Map<Socket, Set<ServerResponse>>();
  #closing = false;

  watch(server: Server): void {
    server.on('connection', (socket: Socket) => {
      this.#responses.set(socket, new Set());
      socket.on('close', () => this.#responses.delete(socket));
    });
  }

  begin(socket: Socket, response: ServerResponse): void {
    const responses = this.#responses.get(socket);
    responses?.add(response);
    response.once('close', () => {
      responses?.delete(response);
      if (this.#closing && responses?.size === 0) socket.destroy();
    });
  }

  /** Whether part of a response is on the wire, so that nothing else may be said there. */
  isResponding(socket: Socket): boolean {
    for (const response of this.#responses.get(socket) ?? []) if (response.headersSent) return true;
    return false;
  }

  /**
   * Closes the sockets without a request now, and each of the others once its answers are sent. Node's own `closeIdleConnections`
   * leaves those on which nothing was ever asked, and those that fall idle later, to the keep-alive timeout.
   */
  closeWhenIdle(): void {
    this.#closing = true;
    for (const [socket, responses] of this.#responses) if (responses.size === 0) socket.destroy();
  }
}

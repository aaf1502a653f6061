import type { FastifyInstance } from 'fastify';
import { GenerationError } from '../generation/errors.ts';
import { InFlight } from './in-flight.ts';

/**
 * Counts the requests under way and, once closed, turns new ones away in words while the others finish: a server that drains keeps
 * listening, since a closed port tells a client nothing.
 */
export class RequestGate {
  readonly #inFlight = new InFlight();
  #isClosed = false;

  /** Requests under way. */
  get active(): number {
    return this.#inFlight.count;
  }

  /** Watches the routes that the plugin gets from here on. They answer 503 with `Retry-After` once the gate is closed. */
  guard(plugin: FastifyInstance): void {
    plugin.addHook('onRequest', (_request, reply, done) => {
      if (this.#isClosed) {
        reply.header('connection', 'close');
        const message =
          'the server is shutting down and takes no more requests; send it again, to another one';
        done(new GenerationError('SERVER_SHUTTING_DOWN', message));
        return;
      }
      this.#inFlight.add(reply.raw);
      done();
    });
  }

  /** Lets no more in, and waits until those within have left or `timeoutMs` is over. */
  async close(timeoutMs: number): Promise<void> {
    this.#isClosed = true;
    await this.#inFlight.whenIdle(timeoutMs);
  }
}

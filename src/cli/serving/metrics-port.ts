import type { AddressInfo } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import type { FastifyInstance } from 'fastify';
import { messageOf } from '../../base/errors.ts';
import { httpStatusOf } from '../../protocol/errors.ts';
import { createHttpServer } from '../../protocol/http-server.ts';
import type { TlsMaterial } from '../../protocol/tls.ts';

/** Scrapers are few. */
const socketsMax = 256;

/** Where to listen, and what to say. */
export interface MetricsPortOptions {
  host: string;
  /** 0 picks a free one. */
  port: number;
  tls?: TlsMaterial;
  metricsText: () => Promise<{ text: string; contentType: string }>;
}

/** The port that has only `/metrics`. */
export class MetricsPort {
  readonly #app: FastifyInstance;

  private constructor(app: FastifyInstance) {
    this.#app = app;
  }

  /** @throws Error `EADDRINUSE` and the like */
  static async start({ host, port, tls, metricsText }: MetricsPortOptions): Promise<MetricsPort> {
    const errorResponse = (error: unknown) => ({
      status: httpStatusOf(error),
      headers: { 'content-type': 'text/plain; charset=utf-8' },
      body: `${messageOf(error)}; this port has only /metrics\n`,
    });
    const app = createHttpServer({
      errorResponse,
      tls,
      limits: { socketsMax, socketsPerAddressMax: socketsMax },
    });
    app.get('/metrics', async (_request, reply) => {
      const { text, contentType } = await metricsText();
      return reply.type(contentType).send(text);
    });
    await app.listen({ host, port });
    return new MetricsPort(app);
  }

  get port(): number {
    return (this.#app.server.address() as AddressInfo).port;
  }

  /** Takes another certificate from now on. */
  setTls(tls: TlsMaterial): void {
    if (this.#app.server instanceof TlsServer) this.#app.server.setSecureContext(tls);
  }

  async close(): Promise<void> {
    await this.#app.close();
  }
}

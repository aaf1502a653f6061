import type { FastifyInstance } from 'fastify';

/** What {@link addResponseHeaders} sends along. */
export interface ResponseHeaderOptions {
  /** Web pages' origins that may read answers (`https://app.example`), or `*` for all. Absent or empty: none. */
  corsOrigins?: readonly string[];
  /** The port speaks TLS: browsers are told to stay with it. */
  secure: boolean;
}

/** Seconds that a browser may remember what a preflight said. */
const preflightMaxAgeSeconds = 600;
const transportSecurity = 'max-age=31536000';
const methods = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE'] as const;
/** Longest list of header names that a preflight gets back. */
const requestHeadersLengthMax = 4_096;

/** Headers of every response, also of those that no route makes. */
export function securityHeaders({ secure }: ResponseHeaderOptions): Record<string, string> {
  return {
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-store',
    ...(secure ? { 'strict-transport-security': transportSecurity } : {}),
  };
}

/**
 * Sets the security headers, and lets web pages of other origins in where they are allowed to. On Node's own response, since streams are
 * written past fastify's. Preflights (and any OPTIONS) are answered here, before a key is asked for: browsers send none with them.
 */
export function addResponseHeaders(app: FastifyInstance, options: ResponseHeaderOptions): void {
  const always = Object.entries(securityHeaders(options));
  const origins = new Set(options.corsOrigins ?? []);
  app.addHook('onRequest', (request, reply, done) => {
    const { raw } = reply;
    for (const [name, value] of always) raw.setHeader(name, value);
    const { origin } = request.headers;
    if (origins.size > 0) {
      if (!origins.has('*')) raw.setHeader('vary', 'origin');
      if (origin !== undefined && (origins.has('*') || origins.has(origin))) {
        raw.setHeader('access-control-allow-origin', origins.has('*') ? '*' : origin);
        raw.setHeader('access-control-expose-headers', '*');
        if (request.method === 'OPTIONS') {
          raw.setHeader('access-control-allow-methods', methods.join(', '));
          const asked = request.headers['access-control-request-headers'] ?? '';
          raw.setHeader('access-control-allow-headers', asked.slice(0, requestHeadersLengthMax));
          raw.setHeader('access-control-max-age', preflightMaxAgeSeconds);
        }
      }
    }
    if (request.method !== 'OPTIONS') {
      done();
      return;
    }
    const url = request.url.split('?', 1)[0] ?? '';
    const allowed = methods.filter((method) => app.hasRoute({ method, url }));
    if (allowed.length === 0 && origin === undefined) {
      done();
      return;
    }
    void reply
      .code(204)
      .header('allow', [...allowed, 'OPTIONS'].join(', '))
      .send();
  });
}

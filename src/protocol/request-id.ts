import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

/** What identifies a request in logs, traces and its response. An incoming one is adopted. */
export const requestIdHeader = 'x-request-id';

/** Longest incoming id that is adopted; a longer one is replaced. */
export const requestIdLengthMax = 128;

/** Visible ASCII: what a header and a log line can carry without escapes. */
const adoptable = /^[\x21-\x7e]+$/;

/** Ids are a random start and a count: unique over servers without a random number a request. */
export function idSource(): () => string {
  const start = randomBytes(10).toString('hex');
  let counter = 0;
  return () => start + (counter++).toString(16).padStart(8, '0');
}

/** Gives each request the client's own id, or a new one. */
export function requestIds(): (request: IncomingMessage) => string {
  const next = idSource();
  return ({ headers }) => {
    const incoming = headers[requestIdHeader];
    const usable =
      typeof incoming === 'string' && incoming.length <= requestIdLengthMax && adoptable.test(incoming);
    return usable ? incoming : `req-${next()}`;
  };
}

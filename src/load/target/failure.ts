import { LoadError } from '../errors.ts';

/** What the system says of an address where nothing answers. */
const unreachable = /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH/;

/**
 * What a request that had to succeed says about the server.
 * @param what which request failed, in words: `a warm-up request`
 */
export function targetFailure(url: string, what: string, reason: string): LoadError {
  return unreachable.test(reason)
    ? new LoadError(
        'LOAD_TARGET_UNREACHABLE',
        `${url} does not answer (${reason}); start the server, or give its address`,
      )
    : new LoadError('LOAD_TARGET_REFUSED', `${url} failed ${what}: ${reason}`);
}

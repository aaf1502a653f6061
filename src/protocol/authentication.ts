import { createHash, timingSafeEqual } from 'node:crypto';
import { ProtocolError } from './errors.ts';

/** Checks `Authorization: Bearer KEY` against a list of keys in a time that tells nothing about them. */
export class ApiKeys {
  readonly #digests: readonly Buffer[];

  constructor(keys: readonly string[]) {
    this.#digests = keys.map(digest);
  }

  /** @throws ProtocolError UNAUTHENTICATED */
  check(authorization: string | undefined): void {
    const presented = /^Bearer +(.+)$/i.exec(authorization ?? '')?.[1];
    if (presented === undefined) {
      const message = "this server wants an API key: send the header 'Authorization: Bearer KEY'";
      throw new ProtocolError('UNAUTHENTICATED', message);
    }
    const found = digest(presented.trim());
    // Every key is compared, whatever the first ones give.
    const matches = this.#digests.filter((known) => timingSafeEqual(known, found));
    if (matches.length === 0)
      throw new ProtocolError('UNAUTHENTICATED', 'the API key is not one of this server');
  }
}

/** Of equal length for all keys, as timingSafeEqual wants. */
function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

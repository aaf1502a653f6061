import { assert } from '../../base/errors.ts';

/** Request ids of one connection begin here times its number, so that an id names its connection. */
export const requestIdsPerConnection = 2 ** 40;

/** Front ends connected to one engine at most; ids of the last one are still safe integers (2^12 · 2^40 = 2^52). */
export const connectionsMax = 4096;

/**
 * Hands out connections' numbers, and with each the first request id it may use. A number is used again once its connection is gone, and its
 * ids go on where that one's ended: a late cancel of an old request never meets a new one.
 */
export class ConnectionNumbers {
  readonly #nextIds: number[] = [];
  /** Numbers whose connections are gone, the longest gone first. */
  readonly #free: number[] = [];
  readonly #max: number;

  constructor(max: number = connectionsMax) {
    assert(max <= connectionsMax, 'request ids are safe integers');
    this.#max = max;
  }

  /** @returns undefined when {@link connectionsMax} are in use */
  take(): { number: number; firstRequestId: number } | undefined {
    const number = this.#nextIds.length < this.#max ? this.#nextIds.length : this.#free.shift();
    if (number === undefined) return undefined;
    const firstRequestId = this.#nextIds[number] ?? number * requestIdsPerConnection;
    this.#nextIds[number] = firstRequestId;
    return { number, firstRequestId };
  }

  /** @param nextRequestId above every id that the connection used */
  giveBack(number: number, nextRequestId: number): void {
    const first = number * requestIdsPerConnection;
    assert(nextRequestId >= (this.#nextIds[number] ?? first), 'ids go up');
    // Half a trillion requests later, its first ids have been forgotten by everybody.
    const isNearlyUsedUp = nextRequestId - first >= requestIdsPerConnection / 2;
    this.#nextIds[number] = isNearlyUsedUp ? first : nextRequestId;
    this.#free.push(number);
  }
}

/** The number of the connection that a request id belongs to. */
export function connectionOf(requestId: number): number {
  return Math.floor(requestId / requestIdsPerConnection);
}

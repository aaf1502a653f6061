import type { ResponseStorage, StoredResponse } from '../../protocol/responses/store.ts';
import type { ControlMessage, FrontEndMessage } from './front-end-messages.ts';
import { caughtUpTimeoutMs } from './shared-responses.ts';

/** How long the primary may take to answer; without an answer there is no such response. */
export const storeTimeoutMs = 2 * caughtUpTimeoutMs;

/** A front end's side of the store that its primary keeps (`shared-responses.ts`). One wait a request under way, no more. */
export class RemoteResponses implements ResponseStorage {
  readonly #send: (message: FrontEndMessage) => void;
  readonly #waiting = new Map<number, (stored: StoredResponse | undefined) => void>();
  #numbers = 0;

  constructor(send: (message: FrontEndMessage) => void) {
    this.#send = send;
  }

  put(stored: StoredResponse): void {
    this.#send({ kind: 'response-put', stored });
  }

  get(id: string, owner: string): Promise<StoredResponse | undefined> {
    return this.#ask('response-get', id, owner);
  }

  async delete(id: string, owner: string): Promise<boolean> {
    return (await this.#ask('response-delete', id, owner)) !== undefined;
  }

  /** The primary's answer. */
  hear({ number, stored }: Extract<ControlMessage, { kind: 'response' }>): void {
    this.#waiting.get(number)?.(stored);
  }

  #ask(
    kind: 'response-get' | 'response-delete',
    id: string,
    owner: string,
  ): Promise<StoredResponse | undefined> {
    const number = ++this.#numbers;
    return new Promise((resolve) => {
      const finish = (stored: StoredResponse | undefined): void => {
        clearTimeout(timer);
        this.#waiting.delete(number);
        resolve(stored);
      };
      const timer = setTimeout(() => finish(undefined), storeTimeoutMs);
      this.#waiting.set(number, finish);
      this.#send({ kind, number, id, owner });
    });
  }
}

import { type Clock, systemClock } from '../../base/clock.ts';
import { ResponseStore } from '../../protocol/responses/store.ts';
import type { FrontEndMessage } from './front-end-messages.ts';
import type { FrontEndSlot } from './front-end-slot.ts';

/** How long a response that is not there yet is waited for, while a front end does not say whether it has sent it. */
export const caughtUpTimeoutMs = 5_000;

/** The primary's store of the Responses API, for all its front ends: a follow-up may reach another one than the response came from. */
export class SharedResponses {
  readonly #store: ResponseStore;
  readonly #slots: () => readonly Pick<FrontEndSlot, 'caughtUp'>[];

  constructor(slots: () => readonly Pick<FrontEndSlot, 'caughtUp'>[], clock: Clock = systemClock) {
    this.#slots = slots;
    this.#store = new ResponseStore(clock);
  }

  /** A front end's message; others than of the store are none of its business. */
  async hear(message: FrontEndMessage, from: Pick<FrontEndSlot, 'send'>): Promise<void> {
    if (message.kind === 'response-put') this.#store.put(message.stored);
    else if (message.kind === 'response-get' || message.kind === 'response-delete') {
      const { number, id, owner } = message;
      let stored = this.#store.get(id, owner);
      if (!stored) {
        // The client that asks may have had the response a moment ago, from a front end whose message is still on its way.
        await Promise.all(this.#slots().map((slot) => slot.caughtUp(caughtUpTimeoutMs)));
        stored = this.#store.get(id, owner);
      }
      if (message.kind === 'response-delete') this.#store.delete(id, owner);
      from.send({ kind: 'response', number, stored });
    }
  }
}

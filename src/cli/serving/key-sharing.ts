import type { ApiKeys, KeyChange } from '../../protocol/authentication.ts';
import type { FrontEndMessage } from './front-end-messages.ts';
import type { FrontEndSlot, SlotObserver } from './front-end-slot.ts';

/**
 * One front end of several: tells the others what keys are used for here, once a turn of the event loop, so that limits hold for all of them
 * together. What several let in at the same moment, before they hear of each other, may go beyond a limit.
 */
export function shareKeyUse(keys: ApiKeys, tell: (changes: KeyChange[]) => void): void {
  const pending = new Map<string, KeyChange>();
  keys.onUse = (change) => {
    if (pending.size === 0) {
      setImmediate(() => {
        tell([...pending.values()]);
        pending.clear();
      });
    }
    const sum = pending.get(change.key) ?? { key: change.key, requests: 0, tokens: 0, running: 0 };
    sum.requests += change.requests;
    sum.tokens += change.tokens;
    sum.running += change.running;
    pending.set(change.key, sum);
  };
}

/** The primary's side: hands on what each front end says, and takes back what ran in one that is gone. */
export class SharedKeyUse implements SlotObserver {
  readonly #slots: () => readonly FrontEndSlot[];
  /** Requests under way by slot and key. */
  readonly #running = new Map<FrontEndSlot, Map<string, number>>();

  /** @param slots all front ends, once they are made */
  constructor(slots: () => readonly FrontEndSlot[]) {
    this.#slots = slots;
  }

  message(message: FrontEndMessage, slot: FrontEndSlot): void {
    if (message.kind !== 'key-use') return;
    const running = this.#running.get(slot) ?? new Map<string, number>();
    this.#running.set(slot, running);
    for (const change of message.changes)
      running.set(change.key, (running.get(change.key) ?? 0) + change.running);
    this.#tellOthers(slot, message.changes);
  }

  started(slot: FrontEndSlot): void {
    for (const [other, running] of this.#running) {
      if (other !== slot) slot.send({ kind: 'key-use', changes: changesOf(running, 1) });
    }
  }

  ended(slot: FrontEndSlot): void {
    const running = this.#running.get(slot);
    if (!running) return;
    this.#running.delete(slot);
    this.#tellOthers(slot, changesOf(running, -1));
  }

  #tellOthers(slot: FrontEndSlot, changes: KeyChange[]): void {
    for (const other of this.#slots()) if (other !== slot) other.send({ kind: 'key-use', changes });
  }
}

function changesOf(running: ReadonlyMap<string, number>, sign: 1 | -1): KeyChange[] {
  return [...running]
    .filter(([, count]) => count !== 0)
    .map(([key, count]) => ({ key, requests: 0, tokens: 0, running: sign * count }));
}

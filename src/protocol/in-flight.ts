import type { EventEmitter } from 'node:events';

/** Counts what is under way (responses, calls), each until it closes, so that a server that drains knows when the last one has left. */
export class InFlight {
  #count = 0;
  #onIdle: () => void = () => {};

  get count(): number {
    return this.#count;
  }

  add(one: EventEmitter): void {
    this.#count++;
    one.once('close', () => {
      this.#count--;
      if (this.#count === 0) this.#onIdle();
    });
  }

  /** Waits until nothing is under way, or `timeoutMs` is over. */
  async whenIdle(timeoutMs: number): Promise<void> {
    if (this.#count === 0) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      timer = setTimeout(resolve, timeoutMs);
    });
    clearTimeout(timer);
  }
}

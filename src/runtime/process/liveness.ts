/** How often a process is asked whether it lives. */
export const pingIntervalMs = 1_000;

/**
 * Whether a process that is asked every {@link pingIntervalMs} still answers. Judges only while this process itself was awake: after a
 * standstill of our own loop, the answers of the others lie unread.
 */
export class Liveness {
  #heardMs = performance.now();
  #lookedMs = performance.now();

  /** It said something. */
  heard(): void {
    this.#heardMs = performance.now();
  }

  /** To be called every {@link pingIntervalMs}. @returns for how long it has been silent, in milliseconds */
  look(): number {
    const nowMs = performance.now();
    if (nowMs - this.#lookedMs > 2 * pingIntervalMs)
      this.#heardMs = Math.max(this.#heardMs, nowMs - pingIntervalMs);
    this.#lookedMs = nowMs;
    return nowMs - this.#heardMs;
  }
}

import { readFileSync } from 'node:fs';

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

/** Whether a signal (SIGSTOP, SIGTSTP) stopped the process. False where the system does not say (Linux does). */
export function isStopped(pid: number | undefined): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The state follows the program's name, which stands in parentheses and may hold any.
    return stat.slice(stat.lastIndexOf(')') + 2).startsWith('T');
  } catch {
    return false;
  }
}

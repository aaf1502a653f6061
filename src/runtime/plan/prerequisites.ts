/**
 * Something that must be there before a request may be planned: a compiled grammar, a loaded adapter, an encoder's run, KV received from
 * elsewhere. A request that waits for one costs no step anything.
 */
export interface Prerequisite {
  readonly isReady: boolean;
  /** Calls `run` once, when it became ready or failed; never while {@link isReady} already holds. */
  onReady(run: (error?: unknown) => void): void;
  /** The request ended, ready or not: what was held for it may go. */
  release(): void;
}

/**
 * Waits for all of a request's prerequisites.
 * @param done is called once: at once when nothing is pending, with an error as soon as one fails
 */
export function whenReady(prerequisites: readonly Prerequisite[], done: (error?: unknown) => void): void {
  const pending = prerequisites.filter(({ isReady }) => !isReady);
  let left = pending.length;
  if (left === 0) done();
  let isDone = false;
  for (const one of pending) {
    one.onReady((error) => {
      left--;
      if (isDone || (left > 0 && error === undefined)) return;
      isDone = true;
      done(error);
    });
  }
}

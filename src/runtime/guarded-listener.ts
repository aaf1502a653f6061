import type { SequenceEvent } from './requests/events.ts';

/**
 * A listener whose bugs cost its own request and nobody else's: once it throws it hears no more, and what it threw surfaces like any uncaught
 * error.
 * @param onThrow ends the request
 */
export function guardedListener(
  listener: (event: SequenceEvent) => void,
  onThrow: (event: SequenceEvent) => void,
): (event: SequenceEvent) => void {
  let isBroken = false;
  return (event) => {
    if (isBroken) return;
    try {
      listener(event);
    } catch (thrown) {
      isBroken = true;
      onThrow(event);
      queueMicrotask(() => {
        throw thrown;
      });
    }
  };
}

import { freemem } from 'node:os';

/** Of the memory that is free when an engine starts, what its KV cache may take unless told otherwise. */
const freeMemoryShare = 0.5;

/**
 * The KV cache's default size in bytes: what all slots at full length would take, but at most half of the free memory. It is a bound for
 * admission, not an allocation: pages are touched as positions are written.
 * @param memoryShare what part of that half is this engine's, where several share the machine
 */
export function defaultKvBytes(
  slots: number,
  contextLength: number,
  bytesPerPosition: number,
  memoryShare = 1,
): number {
  const wanted = slots * contextLength * bytesPerPosition;
  return Math.min(wanted, Math.floor(availableBytes() * freeMemoryShare * memoryShare));
}

/** Free memory as the process may use it: a container's limit counts. */
function availableBytes(): number {
  const constrained = process.constrainedMemory?.();
  const limit =
    constrained && constrained < 2 ** 60 ? constrained - process.memoryUsage.rss() : Number.POSITIVE_INFINITY;
  return Math.max(0, Math.min(freemem(), limit));
}

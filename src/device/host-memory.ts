import { freemem } from 'node:os';
import type { DeviceMemory } from './device.ts';

/** Of the free host memory, what a KV cache may take unless told otherwise: the rest is for weights' pages and the system's own caches. */
const kvShareDefault = 0.5;

/** Free memory of the host as the process may use it: a container's limit counts. */
export function hostMemory(): DeviceMemory {
  const constrained = process.constrainedMemory?.();
  const limit =
    constrained && constrained < 2 ** 60 ? constrained - process.memoryUsage.rss() : Number.POSITIVE_INFINITY;
  return { freeBytes: Math.max(0, Math.min(freemem(), limit)), kvShareDefault };
}

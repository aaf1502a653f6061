import koffi from 'koffi';
import { MemoryMap } from '../ggml/memory.ts';
import { SharedMemoryCollective } from './shared-memory.ts';
import { regionLayout } from './shared-region.ts';

/**
 * Joins a group on this host through the file that `createRegion` made.
 * @throws DeviceError for a file of another version or group
 */
export function openSharedCollective(
  path: string,
  rank: number,
  ranks: number,
  options: { timeoutMs?: number } = {},
): SharedMemoryCollective {
  const yieldProcessor: () => number = koffi.load(null).func('sched_yield', 'int', []);
  const calls = { nowMs: () => performance.now(), yieldProcessor };
  const map = MemoryMap.shared(path, regionLayout(ranks).bytes);
  const memory = map.view(0, map.bytes);
  return new SharedMemoryCollective(memory, rank, ranks, calls, { ...options, close: () => map.close() });
}

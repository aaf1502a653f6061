import koffi from 'koffi';
import { MemoryMap } from '../ggml/memory.ts';
import { SharedMemoryCollective, type WaitCalls } from './shared-memory.ts';
import { regionLayout } from './shared-region.ts';

/** How long a rank sleeps at most before it looks at its deadline again. */
const sleepMaxMs = 50;
const futexWait = 0;
const futexWake = 1;
const everyone = 2 ** 31 - 1;
/** `SYS_futex`, by architecture. */
const futexNumbers: Partial<Record<string, number>> = { x64: 202, arm64: 98 };

/** Linux lets processes sleep on a word of memory that they share; elsewhere they sleep for a moment. */
function waitCalls(address: number): WaitCalls {
  const library = koffi.load(null);
  const yieldProcessor: () => number = library.func('sched_yield', 'int', []);
  const nowMs = () => performance.now();
  const number = process.platform === 'linux' ? futexNumbers[process.arch] : undefined;
  if (number === undefined) {
    const pause = new Int32Array(new SharedArrayBuffer(4));
    return { nowMs, yieldProcessor, sleep: () => Atomics.wait(pause, 0, 0, 0.1), wake() {} };
  }
  const parameters = ['long', 'void *', 'int', 'int', 'void *', 'void *', 'int'];
  const futex = library.func('syscall', 'long', parameters);
  const timeout = new BigInt64Array([0n, BigInt(sleepMaxMs) * 1_000_000n]);
  const at = (offset: number) => BigInt(address + offset);
  return {
    nowMs,
    yieldProcessor,
    sleep: (offset, value) => futex(number, at(offset), futexWait, value, timeout, null, 0),
    wake: (offset) => futex(number, at(offset), futexWake, everyone, null, null, 0),
  };
}

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
  const map = MemoryMap.shared(path, regionLayout(ranks).bytes);
  const memory = map.view(0, map.bytes);
  return new SharedMemoryCollective(memory, rank, ranks, waitCalls(map.address), {
    ...options,
    close: () => map.close(),
  });
}

import { type Clock, systemClock } from '../../base/clock.ts';
import type { KvPoolFacts } from '../../device/device.ts';
import { BlockKvCache } from './blocks.ts';
import type { KvCache } from './kv-cache.ts';
import { SlotKvCache } from './slots.ts';

/** What the engine's options say of its cache. */
export interface KvCacheOptions {
  contextLength: number;
  kvBytesMax: number;
  prefixReuse: boolean;
  prefixCacheBytesMax: number;
  /** For how long something is kept. Default: the system's. */
  clock?: Clock;
}

/** The layout that a device's KV pool is made for: slots where a block holds a whole sequence, blocks where it does not. */
export function createKvCache(pool: KvPoolFacts, options: KvCacheOptions): KvCache {
  const { bytesPerPosition, blockPositions, blocks, hostBlocks } = pool;
  const { kvBytesMax, prefixReuse, clock = systemClock } = options;
  const nowMs = () => clock.nowNs() / 1e6;
  const positionsMax = Math.floor(kvBytesMax / bytesPerPosition);
  const retainedMax = Math.floor(options.prefixCacheBytesMax / bytesPerPosition);
  if (blockPositions >= options.contextLength) {
    return new SlotKvCache({
      slots: blocks,
      positionsMax,
      bytesPerPosition,
      prefixReuse,
      retainedPositionsMax: prefixReuse ? retainedMax : 0,
      nowMs,
    });
  }
  return new BlockKvCache({
    blocks: Math.min(blocks, Math.floor(positionsMax / blockPositions)),
    blockPositions,
    bytesPerPosition,
    prefixReuse,
    retainedBlocksMax: prefixReuse ? Math.floor(retainedMax / blockPositions) : 0,
    hostBlocks: prefixReuse ? hostBlocks : 0,
    nowMs,
  });
}

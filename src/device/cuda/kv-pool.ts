import type { KvSpec } from '../../graph/graph.ts';
import type { KvPoolSize } from '../device.ts';
import { type KvOperations, kvOperation } from '../step.ts';
import type { DevicePointer } from './driver.ts';
import type { Gpu } from './gpu.ts';
import { HostMemory } from './host-memory.ts';
import { MemoryPool } from './memory-pool.ts';
import { type ElementType, elementBytes } from './views.ts';

/** Bytes that one position takes in each layer. */
export function layerPositionBytes(spec: KvSpec, type: ElementType): number[] {
  return spec.layers.map(
    ({ keyElements, valueElements }) => (keyElements + valueElements) * elementBytes(type),
  );
}

/**
 * The paged KV cache on the GPU: layer by layer, each `[block][keys, values][head][position][dimension]`. One block beyond the pool's own
 * takes what padded rows write.
 */
export class KvPool {
  readonly size: KvPoolSize;
  readonly #gpu: Gpu;
  readonly #pool: MemoryPool;
  readonly #layers: { at: DevicePointer; blockBytes: number; hostOffset: number }[] = [];
  readonly #host: HostMemory | undefined;
  readonly #hostBlockBytes: number;

  /** @throws DeviceError DEVICE_OUT_OF_MEMORY */
  constructor(gpu: Gpu, spec: KvSpec, type: ElementType, size: KvPoolSize) {
    this.#gpu = gpu;
    this.size = size;
    this.#pool = new MemoryPool(gpu.driver);
    let hostOffset = 0;
    try {
      for (const bytes of layerPositionBytes(spec, type)) {
        const blockBytes = bytes * size.blockPositions;
        const at = this.#pool.take(blockBytes * (size.blocks + 1));
        this.#layers.push({ at, blockBytes, hostOffset });
        hostOffset += blockBytes;
      }
      this.#hostBlockBytes = hostOffset;
      this.#host = size.hostBlocks > 0 ? new HostMemory(gpu.driver, hostOffset * size.hostBlocks) : undefined;
    } catch (thrown) {
      this.#pool.close();
      throw thrown;
    }
  }

  /** Where padded rows write. */
  get sinkPlace(): number {
    return this.size.blocks * this.size.blockPositions;
  }

  layer(index: number): DevicePointer {
    return this.#layers[index]?.at ?? 0;
  }

  /** Queues a step's block operations, in order. Whole blocks are copied: positions beyond those asked for are never read. */
  operate({ count, kinds, from, to }: KvOperations): void {
    for (let index = 0; index < count; index++) {
      const kind = kinds[index];
      if (kind === kvOperation.release) continue;
      this.#move(kind ?? kvOperation.copy, from[index] as number, to[index] as number);
    }
  }

  #move(kind: number, from: number, to: number): void {
    const { driver, stream } = this.#gpu;
    for (const { at, blockBytes, hostOffset } of this.#layers) {
      const onDevice = (block: number) => at + block * blockBytes;
      const onHost = (block: number) =>
        (this.#host?.address ?? 0n) + BigInt(block * this.#hostBlockBytes + hostOffset);
      if (kind === kvOperation.copy)
        driver.cuMemcpyDtoDAsync_v2(onDevice(to), onDevice(from), blockBytes, stream);
      else if (kind === kvOperation.toHost)
        driver.cuMemcpyDtoHAsync_v2(onHost(to), onDevice(from), blockBytes, stream);
      else driver.cuMemcpyHtoDAsync_v2(onDevice(to), onHost(from), blockBytes, stream);
    }
  }

  close(): void {
    this.#pool.close();
    this.#host?.close();
  }
}

import { assert } from '../../base/errors.ts';
import { type DevicePointer, type Driver, handleFrom } from './driver.ts';

/** What cuBLASLt's and the kernels' 16-byte accesses want, and more. */
const alignmentBytes = 256;

/** Weights are taken from slabs: one driver allocation a tensor would cost 2 MiB each. */
const slabBytesDefault = 256 * 1024 * 1024;

/** GPU memory that only grows: allocations are carved from slabs and given back together. */
export class MemoryPool {
  readonly #driver: Driver;
  readonly #slabs: { at: DevicePointer; bytes: number }[] = [];
  #at = 0;
  #end = 0;
  #bytes = 0;

  constructor(driver: Driver) {
    this.#driver = driver;
  }

  /** Bytes taken from the driver. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * @returns the address of `bytes` fresh bytes, aligned to 256
   * @throws DeviceError DEVICE_OUT_OF_MEMORY
   */
  take(bytes: number): DevicePointer {
    assert(bytes >= 0 && Number.isSafeInteger(bytes), 'a size');
    const rounded = Math.max(1, Math.ceil(bytes / alignmentBytes)) * alignmentBytes;
    // A large tensor gets a slab of its own, and the current one stays in use.
    if (rounded >= slabBytesDefault / 4) return this.#allocate(rounded);
    if (this.#at + rounded > this.#end) {
      this.#at = this.#allocate(slabBytesDefault);
      this.#end = this.#at + slabBytesDefault;
    }
    const address = this.#at;
    this.#at += rounded;
    return address;
  }

  #allocate(bytes: number): DevicePointer {
    const address = Number(handleFrom((out) => this.#driver.cuMemAlloc_v2(out, bytes)));
    this.#slabs.push({ at: address, bytes });
    this.#bytes += bytes;
    return address;
  }

  close(): void {
    for (const { at } of this.#slabs) this.#driver.cuMemFree_v2(at);
    this.#slabs.length = 0;
    this.#at = 0;
    this.#end = 0;
    this.#bytes = 0;
  }
}

import koffi from 'koffi';
import { assert } from '../../base/errors.ts';

/**
 * Memory outside the JavaScript heap with a fixed address, for what the driver reads through pointers: kernel parameters and launch
 * configurations. It only grows; all of it is given back together.
 */
export class NativeMemory {
  readonly address: bigint;
  readonly bytes: number;
  readonly view: DataView;
  readonly #block: unknown;
  #used = 0;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.#block = koffi.alloc('uint8_t', bytes);
    this.address = koffi.address(this.#block);
    this.view = new DataView(koffi.view(this.#block, bytes));
  }

  get bytesFree(): number {
    return this.bytes - this.#used;
  }

  /** @returns the offset of `bytes` fresh bytes, aligned to 16 */
  take(bytes: number): number {
    const offset = this.#used;
    assert(offset + bytes <= this.bytes, 'room in native memory');
    this.#used += Math.ceil(bytes / 16) * 16;
    return offset;
  }

  addressOf(offset: number): bigint {
    return this.address + BigInt(offset);
  }

  close(): void {
    koffi.free(this.#block);
  }
}

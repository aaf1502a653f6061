import koffi from 'koffi';
import { type Driver, type Handle, handleFrom } from './driver.ts';

/** Of memory that grows. */
const bytesMin = 4096;

/** Page-locked host memory, which the GPU copies to and from while the processor goes on. */
export class HostMemory {
  readonly address: Handle;
  readonly words: Int32Array;
  readonly floats: Float32Array;
  readonly doubles: Float64Array;
  readonly #driver: Driver;

  /** `known` if it is large enough (and nobody reads it any more); else fresh memory in its place. */
  static atLeast(driver: Driver, bytes: number, known: HostMemory | undefined): HostMemory {
    if (known && known.words.byteLength >= bytes) return known;
    known?.close();
    return new HostMemory(driver, Math.max(bytesMin, 2 ** Math.ceil(Math.log2(bytes))));
  }

  constructor(driver: Driver, bytes: number) {
    this.#driver = driver;
    this.address = handleFrom((out) => driver.cuMemHostAlloc(out, bytes, 0));
    const buffer = koffi.view(this.address, bytes);
    this.words = new Int32Array(buffer);
    this.floats = new Float32Array(buffer);
    this.doubles = new Float64Array(buffer, 0, Math.floor(bytes / 8));
  }

  close(): void {
    this.#driver.cuMemFreeHost(this.address);
  }
}

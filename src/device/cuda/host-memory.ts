import koffi from 'koffi';
import { type Driver, type Handle, handleFrom } from './driver.ts';

/** Page-locked host memory, which the GPU copies to and from while the processor goes on. */
export class HostMemory {
  readonly address: Handle;
  readonly words: Int32Array;
  readonly floats: Float32Array;
  readonly doubles: Float64Array;
  readonly #driver: Driver;

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

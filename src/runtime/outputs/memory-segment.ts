import type { OutputRows } from './output-rows.ts';
import { type OutputSegment, OutputStore } from './output-store.ts';

/** Rows in this process's memory, for an engine whose listeners live beside it. */
class MemorySegment implements OutputSegment {
  readonly #floats: Float32Array;

  constructor(bytes: number) {
    this.#floats = new Float32Array(bytes / Float32Array.BYTES_PER_ELEMENT);
  }

  write(offset: number, values: Float32Array): void {
    this.#floats.set(values, offset / Float32Array.BYTES_PER_ELEMENT);
  }

  read(offset: number, rows: number, width: number): OutputRows {
    const start = offset / Float32Array.BYTES_PER_ELEMENT;
    return { rows, width, values: this.#floats.subarray(start, start + rows * width) };
  }

  close(): void {}
}

/** A store whose rows are read in this process. */
export function memoryStore(bytesMax: number): OutputStore {
  const openSegment = (_: number, bytes: number): OutputSegment => new MemorySegment(bytes);
  return new OutputStore({ bytesMax, openSegment, isReadElsewhere: false });
}

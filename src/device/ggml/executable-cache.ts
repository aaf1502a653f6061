import { phases } from '../../trace/phases.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import type { DeviceModelSource } from '../device.ts';
import { type FusedGraph, fuse } from '../passes/fuse.ts';
import { adapterKey } from './adapter-rows.ts';
import { Executable, type GraphEnd } from './executable.ts';
import type { GraphAllocator } from './handles.ts';
import type { ExecutableShape, ModelParts } from './lowering-state.ts';

/** Recorded graphs kept for reuse, least recently used dropped first: one for every mix of segment lengths. */
export const executablesMax = 64;

/** A model's executables, recorded when a shape is first seen. They share one activation buffer. */
export class ExecutableCache {
  readonly #parts: ModelParts;
  readonly #source: DeviceModelSource;
  readonly #allocator: GraphAllocator;
  readonly #executables = new Map<string, Executable>();
  #allocatedBytes = 0;
  #matricesVersion = 0;

  constructor(parts: ModelParts, source: DeviceModelSource) {
    this.#parts = parts;
    this.#source = source;
    const { ggml, cpuBufferType } = parts.library;
    this.#allocator = ggml.ggml_gallocr_new(cpuBufferType);
  }

  /** Graphs kept for reuse. */
  get size(): number {
    return this.#executables.size;
  }

  /** @throws DeviceError DEVICE_OUT_OF_MEMORY if the shape's activations find no room; other shapes go on */
  get(shape: ExecutableShape, end: GraphEnd): Executable {
    const { adapters } = shape;
    if (adapters) this.#noteMatrices();
    const own = adapters ? `|${adapterKey(adapters)}` : '';
    const rows = shape.logitRows === undefined ? shape.outputRows : `${shape.outputRows}/${shape.logitRows}`;
    const key = `${shape.segmentRows.join()}|${rows}|${end.argmax}|${end.probabilities}${own}`;
    const known = this.#executables.get(key);
    if (known) {
      this.#executables.delete(key);
      this.#executables.set(key, known);
      return known;
    }
    const executable = this.#record(shape, end);
    this.#noteAllocation();
    this.#executables.set(key, executable);
    for (const [oldest, old] of this.#executables) {
      if (this.#executables.size <= executablesMax) break;
      this.#executables.delete(oldest);
      old.close();
    }
    return executable;
  }

  #record(shape: ExecutableShape, end: GraphEnd): Executable {
    threadTracer.begin(phases.recordGraph);
    try {
      const fused: FusedGraph = fuse(this.#source.record(shape), (names) =>
        this.#parts.weights.canStack(names),
      );
      return this.#layOut(() => new Executable(this.#parts, fused, shape, this.#allocator, end));
    } finally {
      threadTracer.end(phases.recordGraph);
    }
  }

  /** The allocator frees its buffer before it asks for a larger one: after a refusal no graph may run in the old one again. */
  #layOut(create: () => Executable): Executable {
    try {
      return create();
    } catch (thrown) {
      this.#drop();
      this.#allocatedBytes = 0;
      throw thrown;
    }
  }

  /** Graphs with adapters that were recorded before another linear got matrices lack it. */
  #noteMatrices(): void {
    const version = this.#parts.adapters?.pool.version ?? 0;
    if (version === this.#matricesVersion) return;
    this.#matricesVersion = version;
    for (const [key, executable] of this.#executables) {
      if (!executable.usesAdapters) continue;
      this.#executables.delete(key);
      executable.close();
    }
  }

  /** A grown activation buffer has moved: graphs laid out in the old one are void. */
  #noteAllocation(): void {
    const bytes = this.#parts.library.ggml.ggml_gallocr_get_buffer_size(this.#allocator, 0);
    if (bytes === this.#allocatedBytes) return;
    this.#allocatedBytes = bytes;
    this.#drop();
  }

  #drop(): void {
    for (const executable of this.#executables.values()) executable.close();
    this.#executables.clear();
  }

  close(): void {
    this.#drop();
    this.#parts.library.ggml.ggml_gallocr_free(this.#allocator);
  }
}

import { definite } from '../../base/errors.ts';
import { DeviceError } from '../errors.ts';
import type { Backend, ComputeGraph, Threadpool } from './handles.ts';
import type { GgmlLibrary } from './library.ts';

/** `struct ggml_threadpool_params`: a mask of 512 bools, then these. */
const paramsBytes = 528;
const pollOffset = 520;
const statusSuccess = 0;

/** ggml's limit (`GGML_MAX_N_THREADS`). */
export const threadsMax = 512;

/** A backend with its own worker threads. */
export class Compute {
  readonly #library: GgmlLibrary;
  readonly #backend: Backend;
  readonly #pool: Threadpool;

  /** @param poll 0: workers sleep as soon as a step is over; up to 100: they spin longer and longer before that */
  constructor(library: GgmlLibrary, threads: number, poll: number) {
    this.#library = library;
    const { ggml } = library;
    if (!Number.isInteger(threads) || threads < 1 || threads > threadsMax) {
      throw new DeviceError('DEVICE_FAILED', `ggml computes with 1 to ${threadsMax} threads, not ${threads}`);
    }
    this.#backend = definite(ggml.ggml_backend_dev_init(library.cpu, null), 'a CPU backend');
    const params = new Uint8Array(paramsBytes);
    ggml.ggml_threadpool_params_init(params, threads);
    new DataView(params.buffer).setUint32(pollOffset, poll, true);
    const pool = ggml.ggml_threadpool_new(params);
    if (!pool)
      throw new DeviceError('DEVICE_OUT_OF_MEMORY', `cannot start ${threads} compute threads: use fewer`);
    this.#pool = pool;
    ggml.ggml_backend_set_n_threads(this.#backend, threads);
    ggml.ggml_backend_cpu_set_threadpool(this.#backend, this.#pool);
  }

  /** Blocks until the graph was computed. */
  run(graph: ComputeGraph): void {
    const status = this.#library.ggml.ggml_backend_graph_compute(this.#backend, graph);
    if (status === statusSuccess) return;
    throw new DeviceError('DEVICE_FAILED', `ggml_backend_graph_compute returned status ${status}`);
  }

  close(): void {
    this.#library.ggml.ggml_backend_free(this.#backend);
    this.#library.ggml.ggml_threadpool_free(this.#pool);
  }
}

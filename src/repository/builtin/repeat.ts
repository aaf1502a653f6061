import type { Backend, BackendContext } from '../backend.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import { tensorOf, valuesOf } from '../tensor.ts';

/**
 * Triton's `repeat` backend, the usual decoupled example: `IN` INT32[n] comes back element by element as `OUT` INT32[1] with its
 * index `IDX` UINT32[1], after `DELAY` UINT32[n] milliseconds each; then `WAIT` UINT32[1] is over at once (here the instance never waits).
 */
export async function load(context: BackendContext): Promise<Backend> {
  const isBatching = context.config.max_batch_size > 0;
  const shape = isBatching ? [1, 1] : [1];
  return {
    kind: 'direct',
    start: (execution) => new Repetition(execution, shape).next(),
    close: async () => {},
  };
}

/** Elements of one request. */
const elementsMax = 1_048_576;

class Repetition {
  readonly #execution: Execution;
  readonly #values: Int32Array;
  readonly #delaysMs: Uint32Array | undefined;
  readonly #shape: readonly number[];
  #index = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(execution: Execution, shape: readonly number[]) {
    const values = execution.input('IN');
    if (!values) throw new RepositoryError('INVALID_ARGUMENT', "the repeat backend needs an input 'IN'");
    this.#values = valuesOf(values, 'INT32');
    if (this.#values.length > elementsMax) {
      throw new RepositoryError('INVALID_ARGUMENT', `'IN' has over ${elementsMax} elements`);
    }
    const delays = execution.input('DELAY');
    this.#delaysMs = delays && valuesOf(delays, 'UINT32');
    if (this.#delaysMs && this.#delaysMs.length !== this.#values.length) {
      throw new RepositoryError('INVALID_ARGUMENT', 'expected IN and DELAY to have equal sizes');
    }
    this.#execution = execution;
    this.#shape = shape;
    execution.onCancel = () => clearTimeout(this.#timer);
    execution.begin();
  }

  next(): void {
    while (!this.#execution.isOver) {
      if (this.#index === this.#values.length) {
        this.#execution.respond(undefined, true);
        return;
      }
      const delayMs = this.#delaysMs?.[this.#index] ?? 0;
      if (delayMs > 0) {
        this.#timer = setTimeout(() => {
          this.#emit();
          this.next();
        }, delayMs);
        return;
      }
      this.#emit();
    }
  }

  #emit(): void {
    const value = Int32Array.of(this.#values[this.#index] as number);
    const index = Uint32Array.of(this.#index++);
    const outputs = [
      tensorOf('OUT', 'INT32', this.#shape, value),
      tensorOf('IDX', 'UINT32', this.#shape, index),
    ];
    this.#execution.respond({ outputs }, false);
  }
}

import type { Prerequisite } from '../plan/prerequisites.ts';
import type { PlacedAdapter } from './device-slots.ts';

/** One request's hold on its adapter: ready while the adapter has a place on the device, which it keeps until the release. */
export class AdapterLease implements Prerequisite {
  readonly adapter: PlacedAdapter;
  readonly #onRelease: (lease: AdapterLease) => void;
  #isReady = false;
  #isReleased = false;
  #run: ((error?: unknown) => void) | undefined;

  constructor(adapter: PlacedAdapter, onRelease: (lease: AdapterLease) => void) {
    this.adapter = adapter;
    this.#onRelease = onRelease;
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** Where the adapter is on the device, while {@link isReady}. */
  get slot(): number {
    return this.adapter.slot;
  }

  onReady(run: (error?: unknown) => void): void {
    this.#run = run;
  }

  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#run = undefined;
    this.#onRelease(this);
  }

  /** The adapter is there. */
  grant(): void {
    this.#isReady = true;
    const run = this.#run;
    this.#run = undefined;
    run?.();
  }

  /** The adapter cannot be had. */
  fail(error: unknown): void {
    const run = this.#run;
    this.#run = undefined;
    run?.(error);
  }
}

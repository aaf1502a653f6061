import type { DeviceModel } from '../device/device.ts';
import type { AdapterDirectory } from './adapters/adapter.ts';
import type { EngineClient, RequestHandle } from './client.ts';
import { RuntimeError } from './errors.ts';
import { guardedListener } from './guarded-listener.ts';
import { EngineCore, type EngineCoreOptions } from './loop/engine-core.ts';
import type { SequenceEvent } from './requests/events.ts';
import type { GenerationRequest } from './requests/request.ts';
import type { EngineDescription, EngineStatistics } from './requests/statistics.ts';
import { PrefixView } from './routing/prefix-view.ts';

interface LocalRequest {
  listener: (event: SequenceEvent) => void;
  unfinished: number;
}

/**
 * An engine in this process: the same client API as over a transport, for tests and for use as a library. Its steps block the event
 * loop on a CPU device; between two of them the loop turns once.
 */
export class LocalEngine implements EngineClient {
  readonly description: EngineDescription;
  readonly adapters?: AdapterDirectory;
  readonly #core: EngineCore;
  readonly #requests = new Map<number, LocalRequest>();
  #nextId = 0;
  #prefixes: PrefixView | undefined;
  #isLooping = false;
  #isClosing = false;
  #failure: unknown;
  #drained: (() => void) | undefined;

  /**
   * Owns neither the model nor its device: close them after the engine.
   * @throws RuntimeError `OPTIONS_INVALID`
   */
  constructor(model: DeviceModel, options: EngineCoreOptions) {
    this.#core = new EngineCore(
      model,
      {
        ...options,
        onRunnable: () => {
          options.onRunnable?.();
          this.#wake();
        },
        onFatal: (error) => {
          this.#failure = error;
          options.onFatal?.(error);
        },
      },
      (events) => this.#dispatch(events),
    );
    this.description = this.#core.description;
    if (options.adapters) this.adapters = options.adapters;
  }

  get ready(): boolean {
    return !this.#isClosing && this.#failure === undefined;
  }

  submit(request: Omit<GenerationRequest, 'id'>, listener: (event: SequenceEvent) => void): RequestHandle {
    if (this.#isClosing) throw new RuntimeError('SHUTTING_DOWN', 'the engine is closing; use another');
    const id = this.#nextId++;
    this.#core.submit({ ...request, id });
    this.#requests.set(id, {
      listener: guardedListener(listener, () => this.#core.cancel(id)),
      unfinished: request.sequences,
    });
    this.#wake();
    return {
      id,
      cancel: (sequence) => {
        this.#core.cancel(id, sequence);
        this.#wake();
      },
    };
  }

  watchPrefixes(): PrefixView {
    if (!this.#prefixes) {
      this.#prefixes = new PrefixView();
      this.#core.takeKvChanges();
      this.#prefixes.change({ isSnapshot: true, stored: [...this.#core.knownPrefixes], removed: [] });
    }
    return this.#prefixes;
  }

  releaseRetained(): void {
    this.#core.releaseRetained();
    this.#wake();
  }

  statistics(): EngineStatistics {
    return this.#core.statistics();
  }

  async close(options?: { drainTimeoutMs?: number }): Promise<void> {
    this.#isClosing = true;
    if (!this.#core.isEmpty) await this.#drain(options?.drainTimeoutMs ?? 0);
    for (const id of this.#requests.keys()) this.#core.cancel(id);
    this.#wake();
    // Cancelled ones still report; at most one step is in flight.
    if (!this.#core.isEmpty) await new Promise<void>((resolve) => this.#onDrained(resolve));
    await this.#core.close();
  }

  #drain(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#onDrained(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #onDrained(resolve: () => void): void {
    this.#drained = resolve;
  }

  #wake(): void {
    if (this.#isLooping || !this.#core.hasRunnable) return;
    this.#isLooping = true;
    setImmediate(() => void this.#turn());
  }

  async #turn(): Promise<void> {
    const step = this.#core.step();
    if (step) await step;
    this.#updatePrefixes();
    if (this.#core.hasRunnable) {
      setImmediate(() => void this.#turn());
      return;
    }
    this.#isLooping = false;
    if (this.#core.isEmpty) this.#drained?.();
  }

  #dispatch(events: SequenceEvent[]): void {
    // Before the events: who hears of a request's first token knows already that its prompt is known.
    this.#updatePrefixes();
    for (const event of events) {
      const request = this.#requests.get(event.requestId);
      if (!request) continue;
      if (event.finish && --request.unfinished === 0) this.#requests.delete(event.requestId);
      request.listener(event);
    }
  }

  #updatePrefixes(): void {
    const changes = this.#prefixes ? this.#core.takeKvChanges() : undefined;
    if (changes) this.#prefixes?.change({ isSnapshot: false, ...changes });
  }
}

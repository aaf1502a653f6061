import type { AdapterDirectory } from './adapters/adapter.ts';
import type { SequenceEvent } from './requests/events.ts';
import type { GenerationRequest } from './requests/request.ts';
import type { EngineDescription, EngineStatistics } from './requests/statistics.ts';
import type { PrefixView } from './routing/prefix-view.ts';

/**
 * What protocols see of engines: the same in one process, over a socket to an engine process, and for a pool of engines.
 * N front ends × M engines: a front end holds one client; a client may stand for several engines.
 */
export interface EngineClient {
  readonly description: EngineDescription;
  /** Whether requests would be answered now; flips while an engine restarts. */
  readonly ready: boolean;
  /** Why it is not ready, where more is known than that it starts or restarts: it stopped again and again. */
  readonly notReadyReason?: string;
  /** How many engines stand behind it and take requests, and how often they came back; absent in one process. */
  readonly engines?: { ready: number; restarts: number };
  /**
   * Queues a request. `listener` gets every event of it, ending with one `finish` for each sequence; never after that.
   * @throws RuntimeError `QUEUE_FULL`, `PROMPT_TOO_LONG`, `REQUEST_INVALID`, `ENGINE_UNAVAILABLE`
   */
  submit(request: Omit<GenerationRequest, 'id'>, listener: (event: SequenceEvent) => void): RequestHandle;
  statistics(): EngineStatistics;
  /** LoRA adapters that requests may name; absent where the engine serves none. */
  readonly adapters?: AdapterDirectory;
  /** What prompts the engine knows, kept up to date from now on; for routers. Absent where nobody can tell. */
  watchPrefixes?(): PrefixView;
  /** Gives back the KV memory that is kept for reuse and that no request in flight holds: no later one finds any of it. */
  releaseRetained(): void;
  /** Stops taking requests, lets the running ones finish for at most `timeoutMs`, then closes. */
  close(options?: { drainTimeoutMs?: number }): Promise<void>;
}

/** A request that was queued. */
export interface RequestHandle {
  readonly id: number;
  /**
   * Ends the request, or one sequence of it (a stop string was found). Planned batches after this hold none of it. Its events end
   * with `finish: 'cancelled'`.
   */
  cancel(sequence?: number): void;
}

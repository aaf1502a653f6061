import type { Clock } from '../base/clock.ts';
import type {
  CountAndTime,
  FailureReason,
  InferenceTimes,
  ModelStatistics,
  ResponseStatistics,
} from './model.ts';

/** Responses of one request that are counted one by one; later ones are counted with the last. */
export const countedResponsesMax = 4096;

type Totals = ModelStatistics['inference_stats'];

function nothing(): CountAndTime {
  return { count: 0, ns: 0 };
}

function add(total: CountAndTime, ns: number, count = 1): void {
  total.count += count;
  total.ns += Math.max(0, Math.round(ns));
}

function emptyTotals(): Totals {
  return {
    success: nothing(),
    fail: nothing(),
    queue: nothing(),
    compute_input: nothing(),
    compute_infer: nothing(),
    compute_output: nothing(),
    cache_hit: nothing(),
    cache_miss: nothing(),
  };
}

function emptyResponse(): ResponseStatistics {
  return {
    compute_infer: nothing(),
    compute_output: nothing(),
    success: nothing(),
    fail: nothing(),
    empty_response: nothing(),
    cancel: nothing(),
  };
}

/** How long the phases of a request's computation took together, where models behind a model did it. Nanoseconds. */
export interface PhaseDurations {
  queue: number;
  computeInput: number;
  computeInfer: number;
  computeOutput: number;
}

/** The phases as a request's own marks tell them. */
export function phasesOf(times: InferenceTimes): PhaseDurations {
  return {
    queue: times.startedNs - times.queuedNs,
    computeInput: times.inputsReadyNs - times.startedNs,
    computeInfer: times.computedNs - times.inputsReadyNs,
    computeOutput: times.endedNs - times.computedNs,
  };
}

/** Counts what one version of a model does. */
export class StatisticsRecorder {
  /** Requests that no instance has started. */
  pendingRequests = 0;
  loadSeconds = 0;
  readonly #clock: Clock;
  readonly #totals = emptyTotals();
  readonly #responses: ResponseStatistics[] = [];
  readonly #batches = new Map<number, ModelStatistics['batch_stats'][number]>();
  readonly #failures: Record<FailureReason, number> = { REJECTED: 0, CANCELED: 0, BACKEND: 0, OTHER: 0 };
  #lastMs = 0;
  #inferences = 0;
  #executions = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A request ended well; `phases` where others than its own marks tell them. */
  succeeded(times: InferenceTimes, batchSize: number, phases: PhaseDurations): void {
    const totals = this.#totals;
    add(totals.success, times.endedNs - times.arrivedNs);
    add(totals.queue, phases.queue);
    add(totals.compute_input, phases.computeInput);
    add(totals.compute_infer, phases.computeInfer);
    add(totals.compute_output, phases.computeOutput);
    this.#inferences += batchSize;
    this.#lastMs = Math.floor(this.#clock.wallMs());
  }

  failed(reason: FailureReason, times: InferenceTimes): void {
    add(this.#totals.fail, times.endedNs - times.arrivedNs);
    this.#failures[reason]++;
    this.#lastMs = Math.floor(this.#clock.wallMs());
  }

  /** A batch ran. */
  executed(batchSize: number, phases: PhaseDurations): void {
    this.#executions++;
    let row = this.#batches.get(batchSize);
    if (!row) {
      row = {
        batch_size: batchSize,
        compute_input: nothing(),
        compute_infer: nothing(),
        compute_output: nothing(),
      };
      this.#batches.set(batchSize, row);
    }
    add(row.compute_input, phases.computeInput);
    add(row.compute_infer, phases.computeInfer);
    add(row.compute_output, phases.computeOutput);
  }

  /** The index-th response of a decoupled request, `ns` after the one before it. */
  responded(index: number, outcome: 'success' | 'fail' | 'empty_response' | 'cancel', ns: number): void {
    const at = Math.min(index, countedResponsesMax - 1);
    this.#responses[at] ??= emptyResponse();
    const row = this.#responses[at];
    if (outcome === 'success' || outcome === 'fail') {
      add(row.compute_infer, ns);
      add(row.compute_output, 0);
    }
    add(row[outcome], ns);
  }

  /** A copy of everything. */
  snapshot(name: string, version: string): ModelStatistics {
    return structuredClone({
      name,
      version,
      last_inference: this.#lastMs,
      inference_count: this.#inferences,
      execution_count: this.#executions,
      inference_stats: this.#totals,
      response_stats: Object.fromEntries(this.#responses.entries()),
      batch_stats: [...this.#batches.values()].sort((a, b) => a.batch_size - b.batch_size),
      memory_usage: [],
      failures: this.#failures,
      pendingRequests: this.pendingRequests,
      loadSeconds: this.loadSeconds,
    });
  }
}

import type { Clock } from '../base/clock.ts';
import { type RepositoryError, toRepositoryError } from './errors.ts';
import type {
  FailureReason,
  Inference,
  InferenceListener,
  InferenceTimes,
  InferRequest,
  InferResponse,
} from './model.ts';
import { type PhaseDurations, phasesOf, type StatisticsRecorder } from './statistics.ts';
import type { Tensor } from './tensor.ts';

/** What an {@link Execution} needs to know of its model. */
export interface ExecutionModel {
  readonly isDecoupled: boolean;
  readonly recorder: StatisticsRecorder;
  readonly clock: Clock;
  /** Each request is an execution of its own; else the scheduler counts batches. */
  readonly countsExecutions: boolean;
}

/**
 * One request on its way through one model: from the queue to its last response. Schedulers and backends drive it; it counts, times
 * and keeps the listener's contract (nothing after the final response, nothing after a cancel).
 */
export class Execution implements Inference {
  readonly request: InferRequest;
  readonly batchSize: number;
  readonly times: InferenceTimes;
  /** Set by the backend: stops the work. Called at most once. */
  onCancel: (() => void) | undefined;
  /** Set by the scheduler: hears when the work begins. */
  onBegin: (() => void) | undefined;
  /** Set by the scheduler: hears once when this is over, in whatever way. */
  onOver: (() => void) | undefined;
  /** Set by backends whose work is done by other models: what those say of the phases. */
  phases: PhaseDurations | undefined;
  readonly #listener: InferenceListener;
  readonly #model: ExecutionModel;
  #begun = false;
  #over = false;
  #cancelled = false;
  #responses = 0;
  #lastResponseNs = 0;

  constructor(model: ExecutionModel, request: InferRequest, batchSize: number, listener: InferenceListener) {
    this.#model = model;
    this.request = request;
    this.batchSize = batchSize;
    this.#listener = listener;
    const nowNs = model.clock.nowNs();
    const arrivedNs = request.arrivedNs ?? nowNs;
    this.times = {
      arrivedNs,
      queuedNs: nowNs,
      startedNs: 0,
      inputsReadyNs: 0,
      computedNs: 0,
      endedNs: 0,
    };
    model.recorder.pendingRequests++;
  }

  get isOver(): boolean {
    return this.#over;
  }

  get isCancelled(): boolean {
    return this.#cancelled;
  }

  /** Whether an instance has taken it. */
  get hasBegun(): boolean {
    return this.#begun;
  }

  /** The client's input of that name. */
  input(name: string): Tensor | undefined {
    return this.request.inputs.find((tensor) => tensor.name === name);
  }

  /** Whether the client wants that output. */
  wants(output: string): boolean {
    return this.request.outputs?.includes(output) ?? true;
  }

  /** Out of the queue. `atNs` where it is known to have been earlier. */
  begin(atNs = this.#model.clock.nowNs()): void {
    if (this.#begun || this.#over) return;
    this.#begun = true;
    this.times.startedNs = Math.max(this.times.queuedNs, atNs);
    this.#lastResponseNs = this.times.startedNs;
    this.#model.recorder.pendingRequests--;
    this.onBegin?.();
  }

  /** The inputs are where the model computes. `atNs` where it is known to have been earlier. */
  inputsReady(atNs = this.#model.clock.nowNs()): void {
    this.times.inputsReadyNs = Math.max(this.times.startedNs, atNs);
  }

  /** The model has computed; outputs are being put together. */
  computed(atNs = this.#model.clock.nowNs()): void {
    this.times.computedNs = Math.max(this.times.inputsReadyNs, atNs);
  }

  /** Hands a response over. After the final one, or a cancel, it does nothing. */
  respond(response: InferResponse | undefined, isFinal: boolean): void {
    if (this.#over) return;
    const shown = response && this.#asWanted(response);
    this.begin();
    if (this.#model.isDecoupled) this.#count(shown);
    if (isFinal) this.#end(shown?.error ? 'BACKEND' : undefined);
    this.#listener.respond(shown, isFinal);
  }

  /** Ends it with an error. */
  fail(thrown: unknown, reason: FailureReason = 'BACKEND'): void {
    if (this.#over) return;
    const error: RepositoryError = toRepositoryError(thrown);
    this.#end(reason);
    this.#listener.respond({ outputs: [], error }, true);
  }

  /** It never got into the queue: whoever refused it tells the client. */
  refuse(): void {
    if (!this.#over) this.#end('REJECTED');
  }

  cancel(): void {
    if (this.#over) return;
    this.#cancelled = true;
    this.#end('CANCELED');
    this.onCancel?.();
  }

  #asWanted(response: InferResponse): InferResponse {
    const { outputs: wanted } = this.request;
    if (!wanted || response.error || response.outputs.every(({ name }) => wanted.includes(name)))
      return response;
    const outputs = response.outputs.filter(({ name }) => wanted.includes(name));
    return { ...response, outputs };
  }

  #count(response: InferResponse | undefined): void {
    const nowNs = this.#model.clock.nowNs();
    const outcome = response ? (response.error ? 'fail' : 'success') : 'empty_response';
    this.#model.recorder.responded(this.#responses++, outcome, nowNs - this.#lastResponseNs);
    this.#lastResponseNs = nowNs;
  }

  #end(failure: FailureReason | undefined): void {
    const { recorder, clock, isDecoupled } = this.#model;
    this.#over = true;
    if (!this.#begun) recorder.pendingRequests--;
    const { times } = this;
    times.endedNs = clock.nowNs();
    // Marks that the backend did not set: no time passed there.
    times.startedNs ||= times.endedNs;
    times.inputsReadyNs ||= times.startedNs;
    times.computedNs = Math.max(times.computedNs || times.endedNs, times.inputsReadyNs);
    if (failure === 'CANCELED' && isDecoupled) {
      recorder.responded(this.#responses++, 'cancel', times.endedNs - this.#lastResponseNs);
    }
    const phases = this.phases ?? phasesOf(times);
    if (failure) recorder.failed(failure, times);
    else recorder.succeeded(times, this.batchSize, phases);
    if (this.#model.countsExecutions) recorder.executed(this.batchSize, phases);
    this.onOver?.();
    this.#listener.ended?.(times);
  }
}

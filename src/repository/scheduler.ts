import type { Clock } from '../base/clock.ts';
import type { DirectBackend, InstancedBackend } from './backend.ts';
import type { DynamicBatching, ModelConfig, QueuePolicy } from './config/types.ts';
import { RepositoryError } from './errors.ts';
import type { Execution } from './execution.ts';
import { requestPrefix } from './request-check.ts';
import { phasesOf, type StatisticsRecorder } from './statistics.ts';

/** Decides when a request's work begins. */
export interface Scheduler {
  /** @throws RepositoryError UNAVAILABLE when the queue is full */
  submit(execution: Execution): void;
}

/** Requests that may wait for one model, where its configuration sets no limit. */
export const waitingRequestsMax = 65_536;

/** Triton's queue policies: how many may wait, how long, and what happens then. */
class WaitingRoom {
  readonly #batching: DynamicBatching | undefined;
  readonly #waiting = new Map<number, number>();

  constructor(batching: DynamicBatching | undefined) {
    this.#batching = batching;
  }

  /** The request's priority level; 0 where there are none. */
  levelOf(execution: Execution): number {
    const levels = this.#batching?.priority_levels ?? 0;
    if (levels === 0) return 0;
    const asked = execution.request.priority ?? 0;
    return asked >= 1 && asked <= levels ? asked : (this.#batching?.default_priority_level ?? 1);
  }

  /** Lets a request in, until it begins or is over. @throws RepositoryError UNAVAILABLE "Exceeds maximum queue size" */
  admit(execution: Execution, onTimeout: (action: QueuePolicy['timeout_action']) => void): { leave(): void } {
    const level = this.levelOf(execution);
    const policy = this.#policy(level);
    const limit = policy?.max_queue_size || waitingRequestsMax;
    const waiting = this.#waiting.get(level) ?? 0;
    if (waiting >= limit) {
      const problem = `Exceeds maximum queue size: Maximum queue size of ${limit} has been reached`;
      throw new RepositoryError(
        'UNAVAILABLE',
        `${requestPrefix(execution.request.id)}${problem}, please try again later`,
      );
    }
    this.#waiting.set(level, waiting + 1);
    const timeoutUs = timeoutOf(policy, execution);
    const timer =
      timeoutUs > 0
        ? setTimeout(() => onTimeout(policy?.timeout_action ?? 'REJECT'), Math.ceil(timeoutUs / 1000))
        : undefined;
    let isIn = true;
    return {
      leave: () => {
        if (!isIn) return;
        isIn = false;
        clearTimeout(timer);
        this.#waiting.set(level, (this.#waiting.get(level) ?? 1) - 1);
      },
    };
  }

  #policy(level: number): QueuePolicy | undefined {
    const own = this.#batching?.priority_queue_policy[String(level)];
    return own ?? this.#batching?.default_queue_policy;
  }
}

/** A request may shorten the policy's timeout where that is allowed, never lengthen it. */
function timeoutOf(policy: QueuePolicy | undefined, { request }: Execution): number {
  const general = policy?.default_timeout_microseconds ?? 0;
  const asked = policy?.allow_timeout_override ? (request.timeoutUs ?? 0) : 0;
  if (asked > 0 && (general === 0 || asked < general)) return asked;
  return general;
}

function timeoutError({ request }: Execution): RepositoryError {
  return new RepositoryError('UNAVAILABLE', `${requestPrefix(request.id)}Request timeout expired`);
}

/** Starts every request at once. One waits until its backend says that it has begun (an engine's own queue). */
export class DirectScheduler implements Scheduler {
  readonly #backend: DirectBackend;
  readonly #room: WaitingRoom | undefined;

  constructor(backend: DirectBackend, config: ModelConfig) {
    this.#backend = backend;
    const policy = config.dynamic_batching?.default_queue_policy;
    const limits = policy && (policy.max_queue_size > 0 || timeoutMayApply(policy));
    this.#room = limits ? new WaitingRoom(config.dynamic_batching) : undefined;
  }

  submit(execution: Execution): void {
    if (this.#room) this.#admit(this.#room, execution);
    try {
      this.#backend.start(execution);
    } catch (thrown) {
      execution.fail(thrown);
    }
  }

  #admit(room: WaitingRoom, execution: Execution): void {
    const place = room.admit(execution, () => {
      if (execution.hasBegun || execution.isOver) return;
      const stop = execution.onCancel;
      execution.fail(timeoutError(execution), 'REJECTED');
      stop?.();
    });
    execution.onBegin = () => place.leave();
    execution.onOver = () => place.leave();
  }
}

function timeoutMayApply(policy: QueuePolicy): boolean {
  return policy.default_timeout_microseconds > 0 || policy.allow_timeout_override;
}

/** Gives batches to instances as they fall free: Triton's default and dynamic batchers. */
export class InstanceScheduler implements Scheduler {
  readonly #backend: InstancedBackend;
  readonly #config: ModelConfig;
  readonly #clock: Clock;
  readonly #recorder: StatisticsRecorder;
  readonly #room: WaitingRoom;
  readonly #isDecoupled: boolean;
  /** By urgency: levels ascending, then what its timeout delayed. */
  readonly #queues = new Map<number, Execution[]>();
  /** An instance for each batch that it may be handed yet. */
  readonly #idle: number[];
  readonly #places: number;
  #delayTimer: NodeJS.Timeout | undefined;

  constructor(
    backend: InstancedBackend,
    config: ModelConfig,
    parts: { clock: Clock; recorder: StatisticsRecorder; isDecoupled: boolean },
  ) {
    this.#backend = backend;
    this.#config = config;
    this.#clock = parts.clock;
    this.#recorder = parts.recorder;
    this.#isDecoupled = parts.isDecoupled;
    this.#room = new WaitingRoom(config.dynamic_batching);
    const ahead = mayGoAhead(backend, config) ? (backend.aheadMax ?? 0) : 0;
    const places = backend.instances * (1 + ahead);
    this.#idle = Array.from(
      { length: places },
      (_, place) => backend.instances - 1 - Math.floor(place / (1 + ahead)),
    );
    this.#places = places;
  }

  submit(execution: Execution): void {
    const level = this.#room.levelOf(execution);
    const place = this.#room.admit(execution, (action) => {
      if (execution.hasBegun || execution.isOver) return;
      if (action === 'REJECT') execution.fail(timeoutError(execution), 'REJECTED');
      else this.#move(execution, level, delayedLevel);
    });
    execution.onBegin = () => place.leave();
    execution.onOver = () => place.leave();
    this.#queue(level).push(execution);
    this.#pump();
  }

  #queue(level: number): Execution[] {
    let queue = this.#queues.get(level);
    if (!queue) {
      queue = [];
      this.#queues.set(level, queue);
    }
    return queue;
  }

  #move(execution: Execution, from: number, to: number): void {
    const queue = this.#queue(from);
    const at = queue.indexOf(execution);
    if (at < 0) return;
    queue.splice(at, 1);
    this.#queue(to).push(execution);
    this.#pump();
  }

  #pump(): void {
    while (this.#idle.length > 0) {
      const batch = this.#nextBatch();
      if (!batch) return;
      this.#run(batch, this.#idle.pop() as number);
    }
  }

  /** The next batch, out of its queue; undefined when there is none yet. */
  #nextBatch(): Execution[] | undefined {
    for (const level of [...this.#queues.keys()].sort((a, b) => a - b)) {
      const queue = this.#queue(level);
      // What was cancelled or ran out of time is still in here.
      const live = queue.findIndex((execution) => !execution.isOver);
      queue.splice(0, live < 0 ? queue.length : live);
      if (queue.length > 0) return this.#batchOf(queue);
    }
    return undefined;
  }

  #batchOf(queue: Execution[]): Execution[] | undefined {
    const batching = this.#config.dynamic_batching;
    const first = queue[0] as Execution;
    if (!batching || this.#config.max_batch_size === 0) return queue.splice(0, 1);
    const limit = Math.max(...batching.preferred_batch_size, 1);
    const shape = shapeKey(first, this.#config);
    let size = 0;
    let taken = 0;
    for (const execution of queue) {
      if (!execution.isOver) {
        const tooMany = size > 0 && size + execution.batchSize > this.#config.max_batch_size;
        if (tooMany || size >= limit || shapeKey(execution, this.#config) !== shape) break;
        size += execution.batchSize;
      }
      taken++;
    }
    const delayNs = batching.max_queue_delay_microseconds * 1000;
    const waitedNs = this.#clock.nowNs() - first.times.queuedNs;
    if (taken === queue.length && size < limit && waitedNs < delayNs) {
      this.#wakeIn((delayNs - waitedNs) / 1e6);
      return undefined;
    }
    return queue.splice(0, taken).filter((execution) => !execution.isOver);
  }

  #wakeIn(milliseconds: number): void {
    if (this.#delayTimer) return;
    this.#delayTimer = setTimeout(() => {
      this.#delayTimer = undefined;
      this.#pump();
    }, milliseconds);
  }

  #run(batch: Execution[], instance: number): void {
    const isAhead = this.#idle.length + 1 < this.#places && this.#backend.instances === 1;
    if (!isAhead) for (const execution of batch) execution.begin();
    let running: Promise<void> | undefined;
    try {
      running = this.#backend.execute(batch, instance);
    } catch (thrown) {
      this.#finished(batch, instance, thrown);
      return;
    }
    if (!running) {
      this.#finished(batch, instance, undefined);
      return;
    }
    running.then(
      () => {
        this.#finished(batch, instance, undefined);
        this.#pump();
      },
      (thrown: unknown) => {
        this.#finished(batch, instance, thrown);
        this.#pump();
      },
    );
  }

  #finished(batch: readonly Execution[], instance: number, thrown: unknown): void {
    this.#idle.push(instance);
    for (const execution of batch) {
      if (execution.isOver) continue;
      if (thrown !== undefined) execution.fail(thrown);
      else if (!this.#isDecoupled) {
        const message = `the model '${this.#config.name}' ended without a response to this request`;
        execution.fail(new RepositoryError('INTERNAL', message));
      }
    }
    const [first] = batch;
    if (!first) return;
    const size = batch.reduce((sum, { batchSize }) => sum + batchSize, 0);
    const { times } = first;
    const endedNs = times.endedNs || this.#clock.nowNs();
    const inputsReadyNs = times.inputsReadyNs || times.startedNs;
    const computedNs = times.computedNs || endedNs;
    this.#recorder.executed(size, phasesOf({ ...times, endedNs, inputsReadyNs, computedNs }));
  }
}

/**
 * Whether nobody can tell that a batch waits in its instance instead of here: no other instance could take it, and nothing that is decided
 * about waiting requests (batches, priorities, limits) is asked for.
 */
function mayGoAhead(backend: InstancedBackend, config: ModelConfig): boolean {
  return backend.instances === 1 && config.dynamic_batching === undefined;
}

/** After every level of a configuration. */
const delayedLevel = Number.MAX_SAFE_INTEGER;

/** Requests go into one batch where this is equal: the same inputs, and the same shapes but for the batch and ragged ones. */
function shapeKey({ request }: Execution, config: ModelConfig): string {
  const parts = request.inputs.map(({ name, shape }) => {
    const isRagged = config.input.find((input) => input.name === name)?.allow_ragged_batch;
    return isRagged ? name : `${name}:${shape.slice(1)}`;
  });
  return parts.sort().join(';');
}

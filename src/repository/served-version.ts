import type { Clock } from '../base/clock.ts';
import type { Backend } from './backend.ts';
import {
  dataTypeOf,
  fullShape,
  type ModelConfig,
  type ModelInput,
  type ModelOutput,
} from './config/types.ts';
import { RepositoryError } from './errors.ts';
import { Execution, type ExecutionModel } from './execution.ts';
import type {
  Inference,
  InferenceListener,
  InferRequest,
  Model,
  ModelMetadata,
  ModelStatistics,
  RepositoryEngine,
  TensorMetadata,
} from './model.ts';
import { RequestCheck, requestPrefix } from './request-check.ts';
import { DirectScheduler, InstanceScheduler, type Scheduler } from './scheduler.ts';
import { StatisticsRecorder } from './statistics.ts';

/** What a {@link ServedVersion} is made of. */
export interface ServedVersionParts {
  version: string;
  config: ModelConfig;
  backend: Backend;
  /** Class names by output. */
  labels: ReadonlyMap<string, readonly string[]>;
  clock: Clock;
  loadSeconds: number;
}

/** One loaded version of a model: checks requests, schedules and counts them, and waits for them when it is unloaded. */
export class ServedVersion implements Model {
  readonly name: string;
  readonly version: string;
  readonly config: ModelConfig;
  readonly isDecoupled: boolean;
  /** The versions that are ready, for the metadata; the repository's to fill. */
  readyVersions: readonly string[];
  readonly #backend: Backend;
  readonly #labels: ReadonlyMap<string, readonly string[]>;
  readonly #check: RequestCheck;
  readonly #tensors: Omit<ModelMetadata, 'versions'>;
  readonly #scheduler: Scheduler;
  readonly #recorder: StatisticsRecorder;
  readonly #executionModel: ExecutionModel;
  readonly #running = new Set<Execution>();
  #isClosing = false;
  #onIdle: (() => void) | undefined;

  constructor({ version, config, backend, labels, clock, loadSeconds }: ServedVersionParts) {
    this.name = config.name;
    this.version = version;
    this.readyVersions = [version];
    this.config = config;
    this.isDecoupled = config.model_transaction_policy?.decoupled ?? false;
    this.#backend = backend;
    this.#labels = labels;
    this.#check = new RequestCheck(config);
    this.#tensors = {
      name: config.name,
      platform: config.platform || config.backend,
      inputs: config.input.map((input) => tensorMetadata(config, input)),
      outputs: unique(config.output).map((output) => tensorMetadata(config, output)),
    };
    this.#recorder = new StatisticsRecorder(clock);
    this.#recorder.loadSeconds = loadSeconds;
    const { isDecoupled } = this;
    const recorder = this.#recorder;
    this.#executionModel = { isDecoupled, recorder, clock, countsExecutions: backend.kind === 'direct' };
    this.#scheduler =
      backend.kind === 'direct'
        ? new DirectScheduler(backend, config)
        : new InstanceScheduler(backend, config, { clock, recorder, isDecoupled });
  }

  get metadata(): ModelMetadata {
    const { name, platform, inputs, outputs } = this.#tensors;
    return { name, versions: [...this.readyVersions], platform, inputs, outputs };
  }

  /** The engines behind it. */
  get engine(): RepositoryEngine | undefined {
    const engine = this.#backend.kind === 'direct' ? this.#backend.engine : undefined;
    return engine && { ...engine, model: this.name, version: this.version };
  }

  labels(output: string): readonly string[] | undefined {
    return this.#labels.get(output);
  }

  infer(request: InferRequest, listener: InferenceListener): Inference {
    if (this.#isClosing) {
      const model = `Request for unknown model: '${this.name}' version ${this.version} is not at ready state`;
      throw new RepositoryError('UNAVAILABLE', `${requestPrefix(request.id)}${model}`);
    }
    const batchSize = this.#check.check(request);
    const execution = new Execution(this.#executionModel, request, batchSize, {
      respond: (response, isFinal) => {
        if (isFinal) this.#ended(execution);
        listener.respond(response, isFinal);
      },
      ended: (times) => {
        if (execution.isCancelled) this.#ended(execution);
        listener.ended?.(times);
      },
    });
    this.#running.add(execution);
    try {
      this.#scheduler.submit(execution);
    } catch (thrown) {
      // Refused before it waited: it throws here, and is counted.
      execution.refuse();
      this.#running.delete(execution);
      throw thrown;
    }
    return execution;
  }

  statistics(): ModelStatistics {
    return this.#recorder.snapshot(this.name, this.version);
  }

  /** Takes no more requests. */
  stopTaking(): void {
    this.#isClosing = true;
  }

  /** Waits for the running requests, for `drainMs` at most (then they are cancelled), and gives everything back. */
  async close(drainMs: number): Promise<void> {
    this.#isClosing = true;
    if (this.#running.size > 0 && drainMs > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, drainMs);
        this.#onIdle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    for (const execution of [...this.#running]) {
      const message = `the model '${this.name}' was unloaded while this request ran`;
      const stop = execution.onCancel;
      execution.fail(new RepositoryError('UNAVAILABLE', message), 'OTHER');
      stop?.();
    }
    await this.#backend.close();
  }

  #ended(execution: Execution): void {
    this.#running.delete(execution);
    if (this.#running.size === 0) this.#onIdle?.();
  }
}

function tensorMetadata(config: ModelConfig, tensor: ModelInput | ModelOutput): TensorMetadata {
  const datatype = dataTypeOf(tensor.data_type) ?? 'BYTES';
  return { name: tensor.name, datatype, shape: fullShape(config, tensor.dims) };
}

/** The original ensemble declares an output twice. */
function unique<T extends { name: string }>(tensors: readonly T[]): T[] {
  return [...new Map(tensors.map((tensor) => [tensor.name, tensor])).values()];
}

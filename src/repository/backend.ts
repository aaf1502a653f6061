import type { Clock } from '../base/clock.ts';
import type { ModelConfig } from './config/types.ts';
import type { EngineHost } from './engine-host.ts';
import type { Execution } from './execution.ts';
import type { Model, RepositoryEngine } from './model.ts';

/** The part of a logger that this layer uses. */
export interface RepositoryLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What a backend is given to load one version of a model. */
export interface BackendContext {
  name: string;
  version: string;
  /** Complete and checked. */
  config: ModelConfig;
  /** The model's folder (with its overridden files, where a load request brought some). */
  folder: string;
  /** `folder/version`; need not exist. */
  versionFolder: string;
  /** Other models, at the time of the call: for ensembles and models that call models. @throws RepositoryError */
  model(name: string, version?: string): Model;
  engines: EngineHost;
  clock: Clock;
  logger: RepositoryLogger;
}

/** A version of a model that takes every request at once and does its own batching and waiting. */
export interface DirectBackend {
  readonly kind: 'direct';
  /** Starts a request. It calls `begin` when the work begins, and `respond` till the final one. Throwing fails the request. */
  start(execution: Execution): void;
  /** Engines behind it, for metrics. */
  readonly engine?: Omit<RepositoryEngine, 'model' | 'version'>;
  close(): Promise<void>;
}

/** A version of a model with a number of instances; each runs one batch at a time. */
export interface InstancedBackend {
  readonly kind: 'instanced';
  readonly instances: number;
  /** Batches that an instance may be handed while it runs another; it says by `begin` when each one's work began. Absent: none. */
  readonly aheadMax?: number;
  /**
   * Runs a batch. The instance is free again when this returns (or its promise resolves); a model that is not decoupled has
   * answered every request by then. Throwing fails what is not answered.
   */
  execute(batch: readonly Execution[], instance: number): Promise<void> | undefined;
  close(): Promise<void>;
}

export type Backend = DirectBackend | InstancedBackend;

/** What a backend's module exports. */
export interface BackendModule {
  /** Fills in what the files say and config.pbtxt does not (`--disable-auto-complete-config` turns it off). May change `config`. */
  autoComplete?(config: ModelConfig, context: { folder: string; versions: readonly string[] }): Promise<void>;
  /** @throws NereidError, the reason why the model is unavailable */
  load(context: BackendContext): Promise<Backend>;
}

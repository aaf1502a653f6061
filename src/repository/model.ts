import type { EngineClient } from '../runtime/client.ts';
import type { ModelConfig } from './config/types.ts';
import type { RepositoryError } from './errors.ts';
import type { DataType, Tensor } from './tensor.ts';

/** A custom request or response parameter. Whole numbers are int64 on the wire (bigint beyond 2^53), others double. */
export type ParameterValue = boolean | number | bigint | string;

/** Named parameters, without those that a protocol reserves. */
export type Parameters = Readonly<Record<string, ParameterValue>>;

/** One inference request, free of any protocol. */
export interface InferRequest {
  /** '' where the client gave none. */
  readonly id: string;
  readonly inputs: readonly Tensor[];
  /** The outputs asked for; absent: all. */
  readonly outputs?: readonly string[];
  readonly parameters: Parameters;
  /** 0 or '': none. */
  readonly sequenceId?: number | bigint | string;
  readonly sequenceStart?: boolean;
  readonly sequenceEnd?: boolean;
  /** 0: the model's default. */
  readonly priority?: number;
  /** 0: the model's default. */
  readonly timeoutUs?: number;
  /** When it arrived, on the repository's clock (`base/clock.ts`); absent: now. */
  readonly arrivedNs?: number;
  /** Hears how many tokens of prompts and answers each generation took, when it is over; models that call models pass it on. */
  readonly onTokens?: (tokens: number) => void;
}

/** One response: tensors or an error. */
export interface InferResponse {
  readonly outputs: readonly Tensor[];
  readonly parameters?: Parameters;
  readonly error?: RepositoryError;
}

/** When the parts of a request happened, on the repository's clock. */
export interface InferenceTimes {
  arrivedNs: number;
  queuedNs: number;
  /** Out of the queue; inputs are being prepared. */
  startedNs: number;
  inputsReadyNs: number;
  computedNs: number;
  /** The last response was handed over. */
  endedNs: number;
}

/** Who hears the responses of one request. */
export interface InferenceListener {
  /**
   * In order; the last call (and no other) has `isFinal`. A final call without a response is flags only. A model that is not decoupled
   * makes one call. May be called before `infer` returns; never after `cancel()`.
   */
  respond(response: InferResponse | undefined, isFinal: boolean): void;
  /** When it is over, just before the final response; also after `cancel()`. For traces. */
  ended?(times: InferenceTimes): void;
}

/** A request under way. */
export interface Inference {
  /** Ends it; the listener hears no more responses. Harmless when it is over. No batch planned after this holds any of it. */
  cancel(): void;
}

/** A tensor as `ModelMetadata` shows it. */
export interface TensorMetadata {
  name: string;
  datatype: DataType;
  /** −1 for the batch dimension and for any size. */
  shape: number[];
}

/** KServe's model metadata. */
export interface ModelMetadata {
  name: string;
  versions: string[];
  platform: string;
  inputs: TensorMetadata[];
  outputs: TensorMetadata[];
}

/** One version of a model that is ready to answer. */
export interface Model {
  readonly name: string;
  /** A positive integer, as text. */
  readonly version: string;
  readonly config: ModelConfig;
  readonly metadata: ModelMetadata;
  readonly isDecoupled: boolean;
  /** The class names of an output (`label_filename`), for the classification extension. */
  labels(output: string): readonly string[] | undefined;
  /**
   * Checks the request and starts it.
   * @throws RepositoryError a refusal, with Triton's text and `[request id: …] ` in front: nothing was started, `respond` is not called
   */
  infer(request: InferRequest, listener: InferenceListener): Inference;
}

export type ModelState = 'READY' | 'UNAVAILABLE' | 'LOADING' | 'UNLOADING';

/** One line of the repository index; version and state are '' for a model that was never loaded. */
export interface ModelIndexEntry {
  name: string;
  version: string;
  state: ModelState | '';
  reason: string;
}

export type ModelControlMode = 'none' | 'poll' | 'explicit';

/** What a load request may bring. */
export interface LoadParameters {
  /** Replaces config.pbtxt: a `ModelConfig` in protobuf's JSON form. */
  config?: string;
  /** Replaces the model's files (needs `config`): contents by path under the model's folder, `1/model.js`. */
  files?: Readonly<Record<string, Uint8Array>>;
}

/** A number of events and the time that they took together. */
export interface CountAndTime {
  count: number;
  ns: number;
}

/** The statistics of the k-th responses of decoupled requests. */
export interface ResponseStatistics {
  compute_infer: CountAndTime;
  compute_output: CountAndTime;
  success: CountAndTime;
  fail: CountAndTime;
  empty_response: CountAndTime;
  cancel: CountAndTime;
}

/** The reasons of `nv_inference_request_failure`. */
export type FailureReason = 'REJECTED' | 'CANCELED' | 'BACKEND' | 'OTHER';

/** `ModelStatistics` of KServe's statistics extension (first part), and what metrics show beside it. */
export interface ModelStatistics {
  name: string;
  version: string;
  /** Milliseconds since the epoch; 0: never. */
  last_inference: number;
  inference_count: number;
  execution_count: number;
  inference_stats: Record<
    | 'success'
    | 'fail'
    | 'queue'
    | 'compute_input'
    | 'compute_infer'
    | 'compute_output'
    | 'cache_hit'
    | 'cache_miss',
    CountAndTime
  >;
  /** By the response's number in its request, from '0'; empty for models that are not decoupled. */
  response_stats: Record<string, ResponseStatistics>;
  batch_stats: ({ batch_size: number } & Record<
    'compute_input' | 'compute_infer' | 'compute_output',
    CountAndTime
  >)[];
  memory_usage: { type: string; id: number; byte_size: number }[];
  failures: Record<FailureReason, number>;
  /** Requests that no instance has started yet. */
  pendingRequests: number;
  loadSeconds: number;
}

/** How often token counts were in which range. */
export interface LengthHistogram {
  /** Upper bounds, inclusive, ascending. */
  readonly bounds: readonly number[];
  /** One a bound, not cumulative, and a last one for what is beyond. */
  readonly counts: readonly number[];
  readonly sum: number;
}

/** An engine behind a model of the repository, for the `nv_trt_llm_*` metrics. */
export interface RepositoryEngine {
  /** The model and version that it stands behind. */
  model: string;
  version: string;
  client: EngineClient;
  /** The tokenizer that belongs to it. */
  tokenizerFolder: string;
  /** In-flight batching, or static (V1). */
  isInflight: boolean;
  /** Of `nv_llm_input_token_len` and `nv_llm_output_token_len`. */
  inputTokens: LengthHistogram;
  outputTokens: LengthHistogram;
}

/** The models that are served, and what may be done with them. */
export interface ModelRepository {
  readonly controlMode: ModelControlMode;
  /** Every model (or only the ready ones) of all folders. `repositoryName` narrows to one folder; '' is all. */
  index(readyOnly: boolean, repositoryName?: string): ModelIndexEntry[];
  /** @throws RepositoryError as Triton: not in explicit mode, unknown, failed to load (with the reason) */
  load(name: string, parameters?: LoadParameters): Promise<void>;
  /** Returns when it takes no more requests; memory is given back when the running ones are done. @throws RepositoryError */
  unload(name: string, options?: { unloadDependents?: boolean }): Promise<void>;
  /** No version or '': by the version policy, the latest. @throws RepositoryError with Triton's text where it is not ready */
  model(name: string, version?: string): Model;
  /** Never throws for a name that is unknown: that is not ready. */
  isModelReady(name: string, version?: string): boolean;
  /** `/v2/health/ready`, by `strict-readiness`. */
  readonly isReady: boolean;
  /** Of one model (all its versions, or one) or of all. @throws RepositoryError for an unknown one */
  statistics(name?: string, version?: string): ModelStatistics[];
  /** The engines behind the ready models. */
  engines(): RepositoryEngine[];
}

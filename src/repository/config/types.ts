import type { DataType } from '../tensor.ts';

/**
 * A model's configuration in the JSON form of Triton's `ModelConfig` message (field names, enum names, defaults filled in), as the
 * `config` routes answer it; so what is read and what is shown cannot differ. 64-bit fields are numbers.
 */
export interface ModelConfig {
  name: string;
  /** `ensemble`, or a framework's name; '' where `backend` says it. */
  platform: string;
  backend: string;
  runtime: string;
  version_policy: VersionPolicy;
  /** 0: the model does not batch, and tensors have no batch dimension. */
  max_batch_size: number;
  input: ModelInput[];
  output: ModelOutput[];
  batch_input: unknown[];
  batch_output: unknown[];
  optimization: Record<string, unknown>;
  instance_group: InstanceGroup[];
  default_model_filename: string;
  cc_model_filenames: Record<string, string>;
  metric_tags: Record<string, string>;
  parameters: Record<string, { string_value: string }>;
  model_warmup: ModelWarmup[];
  /** At most one of these three. */
  dynamic_batching?: DynamicBatching;
  sequence_batching?: Record<string, unknown>;
  ensemble_scheduling?: EnsembleScheduling;
  model_operations?: { op_library_filename: string[] };
  model_transaction_policy?: { decoupled: boolean };
  model_repository_agents?: { agents: unknown[] };
  response_cache?: { enable: boolean };
  model_metrics?: { metric_control: unknown[] };
}

/** Which versions are served. One of them. */
export interface VersionPolicy {
  latest?: { num_versions: number };
  all?: Record<string, never>;
  specific?: { versions: number[] };
}

/** `TYPE_STRING` is KServe's BYTES; the others carry KServe's name. */
export type ConfigDataType = `TYPE_${Exclude<DataType, 'BYTES'>}` | 'TYPE_STRING' | 'TYPE_INVALID';

/** One declared input. `dims` leave out the batch dimension; −1 is any size. */
export interface ModelInput {
  name: string;
  data_type: ConfigDataType;
  format: string;
  dims: number[];
  reshape?: { shape: number[] };
  is_shape_tensor: boolean;
  allow_ragged_batch: boolean;
  optional: boolean;
  is_non_linear_format_io: boolean;
}

/** One declared output. */
export interface ModelOutput {
  name: string;
  data_type: ConfigDataType;
  dims: number[];
  reshape?: { shape: number[] };
  label_filename: string;
  is_shape_tensor: boolean;
  is_non_linear_format_io: boolean;
}

/** Instances of one kind. */
export interface InstanceGroup {
  name: string;
  kind: 'KIND_AUTO' | 'KIND_GPU' | 'KIND_CPU' | 'KIND_MODEL';
  count: number;
  rate_limiter?: unknown;
  gpus: number[];
  secondary_devices: unknown[];
  profile: string[];
  passive: boolean;
  host_policy: string;
}

/** When a waiting request is refused. */
export interface QueuePolicy {
  timeout_action: 'REJECT' | 'DELAY';
  /** 0: none. */
  default_timeout_microseconds: number;
  allow_timeout_override: boolean;
  /** 0: any number. */
  max_queue_size: number;
}

/** How requests are put together into batches. */
export interface DynamicBatching {
  preferred_batch_size: number[];
  max_queue_delay_microseconds: number;
  preserve_ordering: boolean;
  /** 0: no levels. 1 is the highest. */
  priority_levels: number;
  default_priority_level: number;
  default_queue_policy?: QueuePolicy;
  priority_queue_policy: Record<string, QueuePolicy>;
}

/** One model of an ensemble; maps go from the inner model's tensor name to the ensemble's. */
export interface EnsembleStep {
  model_name: string;
  /** −1: the latest. */
  model_version: number;
  input_map: Record<string, string>;
  output_map: Record<string, string>;
  model_namespace: string;
}

/** The models of an ensemble and how their tensors meet. */
export interface EnsembleScheduling {
  step: EnsembleStep[];
  max_inflight_requests?: number;
}

/** One warm-up sample: what each input holds. */
export interface ModelWarmup {
  name: string;
  batch_size: number;
  inputs: Record<string, WarmupInput>;
  count: number;
}

/** One input of a warm-up sample; one of the three sources. */
export interface WarmupInput {
  data_type: ConfigDataType;
  dims: number[];
  zero_data?: boolean;
  random_data?: boolean;
  input_data_file?: string;
}

/** KServe's name of a configured type; TYPE_INVALID has none. */
export function dataTypeOf(type: ConfigDataType): DataType | undefined {
  if (type === 'TYPE_INVALID') return undefined;
  return type === 'TYPE_STRING' ? 'BYTES' : (type.slice('TYPE_'.length) as DataType);
}

/** A tensor's whole shape as metadata shows it: −1 in front where the model batches. */
export function fullShape(config: Pick<ModelConfig, 'max_batch_size'>, dims: readonly number[]): number[] {
  return config.max_batch_size > 0 ? [-1, ...dims] : [...dims];
}

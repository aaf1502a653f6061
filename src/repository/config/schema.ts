/**
 * The fields of Triton's `ModelConfig` message as data: what the text and JSON readers check against, and whose defaults they fill in.
 * Names, numbers of enums and kinds are those of `model_config.proto`.
 */

export type ScalarType = 'string' | 'int32' | 'int64' | 'uint32' | 'uint64' | 'bool' | 'float';

/** One field. A `map` has text keys (or numbers as text) and values of `type`. */
export interface FieldSchema {
  type: ScalarType | EnumSchema | MessageSchema;
  label?: 'repeated' | 'map';
  /** Fields of one group exclude each other and have no default. */
  oneOf?: string;
}

/** An enum's names by number. */
export interface EnumSchema {
  kind: 'enum';
  name: string;
  values: Readonly<Record<number, string>>;
}

/** A message's fields by name. */
export interface MessageSchema {
  kind: 'message';
  name: string;
  fields: Readonly<Record<string, FieldSchema>>;
}

function message(name: string, fields: Readonly<Record<string, FieldSchema>>): MessageSchema {
  return { kind: 'message', name, fields };
}

function enumeration(name: string, ...names: string[]): EnumSchema {
  return { kind: 'enum', name, values: Object.fromEntries(names.map((value, index) => [index, value])) };
}

const string: FieldSchema = { type: 'string' };
const int32: FieldSchema = { type: 'int32' };
const int64: FieldSchema = { type: 'int64' };
const uint32: FieldSchema = { type: 'uint32' };
const uint64: FieldSchema = { type: 'uint64' };
const bool: FieldSchema = { type: 'bool' };
const float: FieldSchema = { type: 'float' };
const one = (type: FieldSchema['type']): FieldSchema => ({ type });
const many = (type: FieldSchema['type']): FieldSchema => ({ type, label: 'repeated' });
const map = (type: FieldSchema['type']): FieldSchema => ({ type, label: 'map' });
const choice = (oneOf: string, type: FieldSchema['type'], label?: FieldSchema['label']): FieldSchema =>
  label ? { type, oneOf, label } : { type, oneOf };

const dataType = enumeration(
  'DataType',
  'TYPE_INVALID',
  'TYPE_BOOL',
  'TYPE_UINT8',
  'TYPE_UINT16',
  'TYPE_UINT32',
  'TYPE_UINT64',
  'TYPE_INT8',
  'TYPE_INT16',
  'TYPE_INT32',
  'TYPE_INT64',
  'TYPE_FP16',
  'TYPE_FP32',
  'TYPE_FP64',
  'TYPE_STRING',
  'TYPE_BF16',
);

const enable = message('Enable', { enable: bool });
const reshape = message('ModelTensorReshape', { shape: many('int64') });

const rateLimiter = message('ModelRateLimiter', {
  resources: many(message('Resource', { name: string, global: bool, count: uint32 })),
  priority: uint32,
});

const instanceGroup = message('ModelInstanceGroup', {
  name: string,
  kind: one(enumeration('Kind', 'KIND_AUTO', 'KIND_GPU', 'KIND_CPU', 'KIND_MODEL')),
  count: int32,
  rate_limiter: one(rateLimiter),
  gpus: many('int32'),
  secondary_devices: many(
    message('SecondaryDevice', {
      kind: one(enumeration('SecondaryDeviceKind', 'KIND_NVDLA')),
      device_id: int64,
    }),
  ),
  profile: many('string'),
  passive: bool,
  host_policy: string,
});

const input = message('ModelInput', {
  name: string,
  data_type: one(dataType),
  format: one(enumeration('Format', 'FORMAT_NONE', 'FORMAT_NHWC', 'FORMAT_NCHW')),
  dims: many('int64'),
  reshape: one(reshape),
  is_shape_tensor: bool,
  allow_ragged_batch: bool,
  optional: bool,
  is_non_linear_format_io: bool,
});

const output = message('ModelOutput', {
  name: string,
  data_type: one(dataType),
  dims: many('int64'),
  reshape: one(reshape),
  label_filename: string,
  is_shape_tensor: bool,
  is_non_linear_format_io: bool,
});

const batchInput = message('BatchInput', {
  kind: one(
    enumeration(
      'BatchInputKind',
      'BATCH_ELEMENT_COUNT',
      'BATCH_ACCUMULATED_ELEMENT_COUNT',
      'BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO',
      'BATCH_MAX_ELEMENT_COUNT_AS_SHAPE',
      'BATCH_ITEM_SHAPE',
      'BATCH_ITEM_SHAPE_FLATTEN',
    ),
  ),
  target_name: many('string'),
  data_type: one(dataType),
  source_input: many('string'),
});

const batchOutput = message('BatchOutput', {
  target_name: many('string'),
  kind: one(enumeration('BatchOutputKind', 'BATCH_SCATTER_WITH_INPUT_SHAPE')),
  source_input: many('string'),
});

const queuePolicy = message('ModelQueuePolicy', {
  timeout_action: one(enumeration('TimeoutAction', 'REJECT', 'DELAY')),
  default_timeout_microseconds: uint64,
  allow_timeout_override: bool,
  max_queue_size: uint32,
});

const dynamicBatching = message('ModelDynamicBatching', {
  preferred_batch_size: many('int32'),
  max_queue_delay_microseconds: uint64,
  preserve_ordering: bool,
  priority_levels: uint64,
  default_priority_level: uint64,
  default_queue_policy: one(queuePolicy),
  priority_queue_policy: map(queuePolicy),
});

const control = message('Control', {
  kind: one(
    enumeration(
      'ControlKind',
      'CONTROL_SEQUENCE_START',
      'CONTROL_SEQUENCE_READY',
      'CONTROL_SEQUENCE_END',
      'CONTROL_SEQUENCE_CORRID',
    ),
  ),
  int32_false_true: many('int32'),
  fp32_false_true: many('float'),
  bool_false_true: many('bool'),
  data_type: one(dataType),
});

const initialState = message('InitialState', {
  data_type: one(dataType),
  dims: many('int64'),
  zero_data: choice('state_data', 'bool'),
  data_file: choice('state_data', 'string'),
  name: string,
});

const sequenceBatching = message('ModelSequenceBatching', {
  direct: choice(
    'strategy',
    message('StrategyDirect', { max_queue_delay_microseconds: uint64, minimum_slot_utilization: float }),
  ),
  oldest: choice(
    'strategy',
    message('StrategyOldest', {
      max_candidate_sequences: int32,
      preferred_batch_size: many('int32'),
      max_queue_delay_microseconds: uint64,
      preserve_ordering: bool,
    }),
  ),
  max_sequence_idle_microseconds: uint64,
  control_input: many(message('ControlInput', { name: string, control: many(control) })),
  state: many(
    message('State', {
      input_name: string,
      output_name: string,
      data_type: one(dataType),
      dims: many('int64'),
      initial_state: many(initialState),
      use_same_buffer_for_input_output: bool,
      use_growable_memory: bool,
    }),
  ),
  iterative_sequence: bool,
});

const ensembleScheduling = message('ModelEnsembling', {
  step: many(
    message('Step', {
      model_name: string,
      model_version: int64,
      input_map: map('string'),
      output_map: map('string'),
      model_namespace: string,
    }),
  ),
  max_inflight_requests: choice('max_inflight_requests', 'uint32'),
});

const warmup = message('ModelWarmup', {
  name: string,
  batch_size: uint32,
  inputs: map(
    message('Input', {
      data_type: one(dataType),
      dims: many('int64'),
      zero_data: choice('input_data_type', 'bool'),
      random_data: choice('input_data_type', 'bool'),
      input_data_file: choice('input_data_type', 'string'),
    }),
  ),
  count: uint32,
});

const accelerator = message('Accelerator', { name: string, parameters: map('string') });

const optimization = message('ModelOptimizationPolicy', {
  graph: one(message('Graph', { level: int32 })),
  priority: one(enumeration('ModelPriority', 'PRIORITY_DEFAULT', 'PRIORITY_MAX', 'PRIORITY_MIN')),
  cuda: one(
    message('Cuda', {
      graphs: bool,
      busy_wait_events: bool,
      graph_spec: many(
        message('GraphSpec', {
          batch_size: int32,
          input: map(message('Shape', { dim: many('int64') })),
          graph_lower_bound: one(
            message('LowerBound', {
              batch_size: int32,
              input: map(message('Shape', { dim: many('int64') })),
            }),
          ),
        }),
      ),
      output_copy_stream: bool,
    }),
  ),
  execution_accelerators: one(
    message('ExecutionAccelerators', {
      gpu_execution_accelerator: many(accelerator),
      cpu_execution_accelerator: many(accelerator),
    }),
  ),
  input_pinned_memory: one(enable),
  output_pinned_memory: one(enable),
  gather_kernel_buffer_threshold: uint32,
  eager_batching: bool,
});

const modelMetrics = message('ModelMetrics', {
  metric_control: many(
    message('MetricControl', {
      metric_identifier: one(message('MetricIdentifier', { family: string })),
      histogram_options: choice('metric_options', message('HistogramOptions', { buckets: many('float') })),
    }),
  ),
});

/** `inference.ModelConfig`, in the order of its fields. */
export const modelConfigSchema = message('inference.ModelConfig', {
  name: string,
  platform: string,
  backend: string,
  runtime: string,
  version_policy: one(
    message('ModelVersionPolicy', {
      latest: choice('policy_choice', message('Latest', { num_versions: uint32 })),
      all: choice('policy_choice', message('All', {})),
      specific: choice('policy_choice', message('Specific', { versions: many('int64') })),
    }),
  ),
  max_batch_size: int32,
  input: many(input),
  output: many(output),
  batch_input: many(batchInput),
  batch_output: many(batchOutput),
  optimization: one(optimization),
  dynamic_batching: choice('scheduling_choice', dynamicBatching),
  sequence_batching: choice('scheduling_choice', sequenceBatching),
  ensemble_scheduling: choice('scheduling_choice', ensembleScheduling),
  instance_group: many(instanceGroup),
  default_model_filename: string,
  cc_model_filenames: map('string'),
  metric_tags: map('string'),
  parameters: map(message('ModelParameter', { string_value: string })),
  model_warmup: many(warmup),
  model_operations: one(message('ModelOperations', { op_library_filename: many('string') })),
  model_transaction_policy: one(message('ModelTransactionPolicy', { decoupled: bool })),
  model_repository_agents: one(
    message('ModelRepositoryAgents', {
      agents: many(message('Agent', { name: string, parameters: map('string') })),
    }),
  ),
  response_cache: one(enable),
  model_metrics: one(modelMetrics),
});

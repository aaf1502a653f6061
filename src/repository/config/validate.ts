import { RepositoryError } from '../errors.ts';
import { elementCount } from '../tensor.ts';
import { validateFlow } from './ensemble-flow.ts';
import type { ModelConfig, ModelInput, ModelOutput } from './types.ts';

/**
 * What Triton checks when it looks at the repository: what is wrong here is no model at all.
 * @throws RepositoryError INVALID_ARGUMENT
 */
export function validateIdentity(config: ModelConfig, folderName: string): void {
  const { name } = config;
  if (name !== folderName) {
    throw invalid(
      `unexpected directory name '${folderName}' for model '${name}', directory name must equal model name`,
    );
  }
  const isEnsemble = config.platform === 'ensemble';
  if (isEnsemble && !config.ensemble_scheduling) {
    throw invalid(`ensemble scheduling must be set for ensemble ${name} whose platform is ensemble`);
  }
  if (!isEnsemble && config.ensemble_scheduling) {
    throw invalid(`ensemble scheduling cannot be set for model '${name}' whose platform is not ensemble`);
  }
  if (isEnsemble && config.instance_group.length > 0) {
    throw invalid(`instance group should not be specified for ensemble '${name}'`);
  }
  if (isEnsemble) validateFlow(config);
  if (config.max_batch_size < 0) throw invalid(`'max_batch_size' must be non-negative value for ${name}`);
  validateBatching(config);
}

/**
 * What Triton checks of a configuration before it loads the model (section by section, in its words where clients look for them).
 * Ensembles' wiring is checked when the composing models are known.
 * @throws RepositoryError INVALID_ARGUMENT
 */
export function validateConfig(config: ModelConfig): void {
  for (const input of config.input) validateTensor('input', input, config);
  for (const output of config.output) validateTensor('output', output, config);
  checkUnique(config);
  validateScheduling(config);
  validateInstances(config);
}

function validateTensor(
  what: 'input' | 'output',
  tensor: ModelInput | ModelOutput,
  config: ModelConfig,
): void {
  const { name: model, max_batch_size } = config;
  if (tensor.name === '') throw invalid(`model ${what} must specify 'name' for ${model}`);
  if (tensor.data_type === 'TYPE_INVALID') {
    throw invalid(`model ${what} '${tensor.name}' must specify 'data_type' for ${model}`);
  }
  const { dims, reshape } = tensor;
  if (dims.length === 0 && (max_batch_size === 0 || reshape)) {
    throw invalid(`model ${what} '${tensor.name}' must specify 'dims' for ${model}`);
  }
  if (dims.some((dimension) => dimension < 1 && dimension !== -1)) {
    throw invalid(
      `model ${what} '${tensor.name}' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for ${model}`,
    );
  }
  if (tensor.is_shape_tensor)
    throw invalid(`shape tensors are only supported for TensorRT platform for ${model}`);
  if ('format' in tensor && tensor.format !== 'FORMAT_NONE' && dims.length !== 3) {
    throw invalid(`model ${what} NHWC/NCHW require 3 dims for ${model}`);
  }
  if (reshape) validateReshape(what, tensor.name, dims, reshape.shape, config);
}

function validateReshape(
  what: string,
  name: string,
  dims: readonly number[],
  shape: readonly number[],
  config: ModelConfig,
): void {
  const { name: model } = config;
  if (shape.length === 0 && config.max_batch_size === 0) {
    const problem = 'cannot have empty reshape for non-batching model as scalar tensors are not supported';
    throw invalid(`model ${what} '${name}' ${problem} for ${model}`);
  }
  if (shape.some((dimension) => dimension < 1 && dimension !== -1)) {
    const range = 'must be integer >= 1, or -1 to indicate a variable-size dimension';
    throw invalid(`model ${what} '${name}' reshape dimensions ${range} for ${model}`);
  }
  const variable = (list: readonly number[]) => list.filter((dimension) => dimension === -1).length;
  const fixed = (list: readonly number[]) => elementCount(list.filter((dimension) => dimension !== -1));
  if (fixed(dims) !== fixed(shape)) {
    throw invalid(`model ${what} '${name}' has different size for dims and reshape for ${model}`);
  }
  if (variable(dims) !== variable(shape)) {
    const problem = 'has different number of variable-size dimensions for dims and reshape';
    throw invalid(`model ${what} '${name}' ${problem} for ${model}`);
  }
}

/** A repeated output of the same declaration is harmless (the original ensemble has one); others are not. */
function checkUnique(config: ModelConfig): void {
  for (const [what, tensors] of [
    ['input', config.input],
    ['output', config.output],
  ] as const) {
    const seen = new Map<string, string>();
    for (const tensor of tensors) {
      const declaration = JSON.stringify([tensor.data_type, tensor.dims]);
      const before = seen.get(tensor.name);
      if (before !== undefined && before !== declaration) {
        throw invalid(`model ${what} '${tensor.name}' of ${config.name} is declared twice, differently`);
      }
      seen.set(tensor.name, declaration);
    }
  }
}

function validateBatching(config: ModelConfig): void {
  const { name, dynamic_batching: batching, max_batch_size: max } = config;
  for (const size of batching?.preferred_batch_size ?? []) {
    if (size <= 0) throw invalid(`dynamic batching preferred size must be positive for ${name}`);
    if (size > Math.max(1, max)) {
      throw invalid(`dynamic batching preferred size must be <= max batch size for ${name}`);
    }
  }
  const levels = batching?.priority_levels ?? 0;
  const level = batching?.default_priority_level ?? 0;
  if (levels > 0 && (level === 0 || level > levels)) {
    throw invalid(`default priority level must be in range [1, ${levels}] for ${name}`);
  }
  for (const own of Object.keys(batching?.priority_queue_policy ?? {})) {
    if (Number(own) < 1 || Number(own) > levels) {
      throw invalid(
        `priority queue policy must have priority level in range [1, ${levels}] for ${name}, got ${own}`,
      );
    }
  }
}

function validateScheduling(config: ModelConfig): void {
  if (config.sequence_batching) {
    throw new RepositoryError(
      'UNSUPPORTED',
      `sequence_batching of '${config.name}' is not supported; the models of a repository here keep no state between requests`,
    );
  }
}

/** Instances of one model; each is a thread or an engine. */
export const instancesMax = 256;

function validateInstances(config: ModelConfig): void {
  let count = 0;
  for (const group of config.instance_group) {
    count += group.count;
  }
  if (count > instancesMax) {
    throw invalid(`${config.name} asks for ${count} instances; at most ${instancesMax} are allowed`);
  }
}

function invalid(message: string): RepositoryError {
  return new RepositoryError('INVALID_ARGUMENT', message);
}

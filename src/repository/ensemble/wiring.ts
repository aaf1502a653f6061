import { type EnsembleStep, fullShape, type ModelConfig } from '../config/types.ts';
import { RepositoryError } from '../errors.ts';

/** One model of an ensemble, with its place in the flow. */
export interface WiredStep {
  modelName: string;
  /** '' : the latest. */
  version: string;
  isDecoupled: boolean;
  inputs: readonly { inner: string; tensor: string }[];
  outputs: readonly { inner: string; tensor: string }[];
  /** Inner outputs that something reads: later steps, or whoever asks for that output of the ensemble. */
  usedBySteps: ReadonlySet<string>;
  /** Indexes of the steps whose tensors this one reads. */
  after: readonly number[];
}

/** A tensor's declaration where an ensemble meets a model. */
interface Declaration {
  dataType: string;
  shape: readonly number[];
  owner: string;
}

/**
 * Checks an ensemble's wiring (sound in itself: `config/ensemble-flow.ts`) against the models it is made of, and orders it.
 * @param configOf a step's model's configuration. @throws RepositoryError where there is none
 * @throws RepositoryError INVALID_ARGUMENT in Triton's manner
 */
export function wireEnsemble(
  config: ModelConfig,
  configOf: (step: EnsembleStep) => ModelConfig,
): WiredStep[] {
  const steps = config.ensemble_scheduling?.step ?? [];
  const { name: own } = config;
  const configs = steps.map((step) => {
    if (step.model_name === own) {
      const message = `circular dependency between ensembles: ${own} -> ... -> ${own} -> ${own}`;
      throw new RepositoryError('INVALID_ARGUMENT', message);
    }
    return configOf(step);
  });
  const declarations = new Map<string, Declaration>();
  for (const { name, data_type, dims } of [...config.input, ...config.output]) {
    agree(config, declarations, name, { dataType: data_type, shape: fullShape(config, dims), owner: own });
  }
  const producers = producersOf(steps);
  steps.forEach((step, index) => {
    checkStep(config, step, configs[index] as ModelConfig, declarations);
  });
  const wired = steps.map((step, index) => wire(step, configs[index] as ModelConfig, steps, producers));
  checkOrder(config, wired);
  return wired;
}

/** The step that produces each tensor. */
function producersOf(steps: readonly EnsembleStep[]): Map<string, number> {
  return new Map(
    steps.flatMap((step, index) => Object.values(step.output_map).map((tensor) => [tensor, index] as const)),
  );
}

function checkStep(
  config: ModelConfig,
  step: EnsembleStep,
  model: ModelConfig,
  declarations: Map<string, Declaration>,
): void {
  const where = `in step of model '${step.model_name}'`;
  for (const [inner, tensor] of Object.entries(step.input_map)) {
    const input = model.input.find(({ name }) => name === inner);
    if (!input) {
      const problem = `is mapping to non-existing input ${inner} in model ${step.model_name}`;
      throw invalid(config, `ensemble tensor ${tensor} ${problem}`);
    }
    const shape = fullShape(model, input.dims);
    agree(config, declarations, tensor, { dataType: input.data_type, shape, owner: step.model_name });
  }
  for (const input of model.input) {
    if (!input.optional && !Object.hasOwn(step.input_map, input.name)) {
      throw invalid(config, `input map ${where} must specify the required input '${input.name}'`);
    }
  }
  for (const [inner, tensor] of Object.entries(step.output_map)) {
    const output = model.output.find(({ name }) => name === inner);
    if (!output) {
      const problem = `is mapped from non-existing output ${inner} in model ${step.model_name}`;
      throw invalid(config, `ensemble tensor ${tensor} ${problem}`);
    }
    const shape = fullShape(model, output.dims);
    agree(config, declarations, tensor, { dataType: output.data_type, shape, owner: step.model_name });
  }
}

function agree(
  config: ModelConfig,
  declarations: Map<string, Declaration>,
  tensor: string,
  found: Declaration,
): void {
  const known = declarations.get(tensor);
  if (!known) {
    declarations.set(tensor, found);
    return;
  }
  if (known.dataType !== found.dataType) {
    throw inconsistent(
      config,
      tensor,
      'data type',
      [known.dataType, known.owner],
      [found.dataType, found.owner],
    );
  }
  if (!shapesMeet(known.shape, found.shape)) {
    const shapes = [`[${known.shape}]`, `[${found.shape}]`] as const;
    throw inconsistent(config, tensor, 'shape', [shapes[0], known.owner], [shapes[1], found.owner]);
  }
}

function inconsistent(
  config: ModelConfig,
  tensor: string,
  what: string,
  known: readonly [string, string],
  found: readonly [string, string],
): RepositoryError {
  const origin = ([value, owner]: readonly [string, string]) => `${value} is inferred from model ${owner}`;
  const problem = `inconsistent ${what}: ${origin(known)} while ${origin(found)}`;
  return invalid(config, `ensemble tensor ${tensor}: ${problem}`);
}

/** −1 meets anything; the numbers of dimensions must be equal. */
function shapesMeet(a: readonly number[], b: readonly number[]): boolean {
  return (
    a.length === b.length &&
    a.every((dimension, index) => dimension === -1 || b[index] === -1 || dimension === b[index])
  );
}

function wire(
  step: EnsembleStep,
  model: ModelConfig,
  steps: readonly EnsembleStep[],
  producers: ReadonlyMap<string, number>,
): WiredStep {
  const inputs = Object.entries(step.input_map).map(([inner, tensor]) => ({ inner, tensor }));
  const outputs = Object.entries(step.output_map).map(([inner, tensor]) => ({ inner, tensor }));
  const read = new Set(steps.flatMap((other) => Object.values(other.input_map)));
  const after = inputs.flatMap(({ tensor }) => producers.get(tensor) ?? []);
  return {
    modelName: step.model_name,
    version: step.model_version > 0 ? String(step.model_version) : '',
    isDecoupled: model.model_transaction_policy?.decoupled ?? false,
    inputs,
    outputs,
    usedBySteps: new Set(outputs.filter(({ tensor }) => read.has(tensor)).map(({ inner }) => inner)),
    after: [...new Set(after)],
  };
}

function checkOrder(config: ModelConfig, steps: readonly WiredStep[]): void {
  const done = new Set<number>();
  for (let before = -1; before !== done.size; ) {
    before = done.size;
    steps.forEach((step, index) => {
      if (step.after.every((other) => done.has(other))) done.add(index);
    });
  }
  if (done.size < steps.length) throw invalid(config, 'the steps wait for each other: circular dependency');
}

function invalid(config: ModelConfig, problem: string): RepositoryError {
  return new RepositoryError('INVALID_ARGUMENT', `in ensemble ${config.name}, ${problem}`);
}

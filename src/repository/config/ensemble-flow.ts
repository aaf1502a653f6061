import { RepositoryError } from '../errors.ts';
import type { ModelConfig } from './types.ts';

/**
 * What can be told of an ensemble without its models: where each of its tensors comes from, and that each is read. tritonserver looks at
 * this when it reads the repository.
 * @throws RepositoryError INVALID_ARGUMENT
 */
export function validateFlow(config: ModelConfig): void {
  const steps = config.ensemble_scheduling?.step ?? [];
  if (steps.length === 0) throw invalid(config, 'must specify at least one step');
  if (config.backend !== '') throw invalid(config, "must not specify 'backend'");
  const inputs = new Set(config.input.map(({ name }) => name));
  const produced = new Set<string>();
  const read = new Set<string>();
  for (const { model_name: model, input_map, output_map } of steps) {
    if (model === '') throw invalid(config, "must specify 'model_name' in each step");
    const where = `in step of model '${model}'`;
    if (Object.keys(input_map).length === 0) throw invalid(config, `must specify 'input_map' ${where}`);
    if (Object.keys(output_map).length === 0) throw invalid(config, `must specify 'output_map' ${where}`);
    for (const tensor of Object.values(output_map)) {
      if (produced.has(tensor)) {
        const problem = `ensemble tensor '${tensor}' can appear in an output map only once`;
        throw invalid(config, `${problem} (again ${where})`);
      }
      if (inputs.has(tensor))
        throw invalid(config, `ensemble tensor '${tensor}' is an input and a step's output`);
      produced.add(tensor);
    }
    for (const tensor of Object.values(input_map)) read.add(tensor);
  }
  for (const tensor of read) {
    if (!inputs.has(tensor) && !produced.has(tensor)) {
      throw invalid(config, `ensemble tensor '${tensor}' is neither an input nor produced by a step`);
    }
  }
  const outputs = new Set(config.output.map(({ name }) => name));
  for (const name of outputs) {
    if (!produced.has(name)) throw invalid(config, `no step produces the output '${name}'`);
  }
  for (const name of inputs) if (!read.has(name)) throw invalid(config, `no step reads the input '${name}'`);
  for (const tensor of produced) {
    if (!read.has(tensor) && !outputs.has(tensor)) {
      throw invalid(config, `nothing reads ensemble tensor '${tensor}', and it is no output`);
    }
  }
}

function invalid(config: ModelConfig, problem: string): RepositoryError {
  return new RepositoryError('INVALID_ARGUMENT', `in ensemble ${config.name}, ${problem}`);
}

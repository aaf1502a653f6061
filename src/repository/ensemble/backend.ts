import type { Backend, BackendContext } from '../backend.ts';
import { EnsembleRun } from './run.ts';
import { wireEnsemble } from './wiring.ts';

/**
 * Triton's ensembles: a pipeline of models that are loaded already. Decoupled where one of its steps is.
 * @throws RepositoryError when the wiring does not fit the models
 */
export async function load(context: BackendContext): Promise<Backend> {
  const { config, name } = context;
  const versionOf = (version: number): string => (version > 0 ? String(version) : '');
  const steps = wireEnsemble(
    config,
    (step) => context.model(step.model_name, versionOf(step.model_version)).config,
  );
  config.model_transaction_policy = { decoupled: steps.some((step) => step.isDecoupled) };
  const outputs = [...new Set(config.output.map((output) => output.name))];
  const parts = { steps, outputs, model: context.model, errorPrefix: `in ensemble '${name}', ` };
  return {
    kind: 'direct',
    start: (execution) => new EnsembleRun(execution, parts).start(),
    close: async () => {},
  };
}

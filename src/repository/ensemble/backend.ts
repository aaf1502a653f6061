import type { Backend, BackendContext } from '../backend.ts';
import { RepositoryError } from '../errors.ts';
import { EnsembleRun } from './run.ts';
import { wireEnsemble } from './wiring.ts';

/**
 * Triton's ensembles: a pipeline of models that are loaded already. Decoupled where one of its steps is.
 * @throws RepositoryError when the wiring does not fit the models
 */
export async function load(context: BackendContext): Promise<Backend> {
  const { config, name } = context;
  const versionOf = (version: number): string => (version > 0 ? String(version) : '');
  const steps = wireEnsemble(config, ({ model_name, model_version }) => {
    try {
      return context.model(model_name, versionOf(model_version)).config;
    } catch (cause) {
      const missing =
        model_version > 0
          ? `whose required version ${model_version} is not loaded.`
          : 'which has no loaded version.';
      const message = `ensemble '${name}' depends on '${model_name}' ${missing}`;
      throw new RepositoryError('INVALID_ARGUMENT', message, { cause });
    }
  });
  config.model_transaction_policy = { decoupled: steps.some((step) => step.isDecoupled) };
  const outputs = [...new Set(config.output.map((output) => output.name))];
  const parts = { steps, outputs, model: context.model, errorPrefix: `in ensemble '${name}', ` };
  return {
    kind: 'direct',
    start: (execution) => new EnsembleRun(execution, parts).start(),
    close: async () => {},
  };
}

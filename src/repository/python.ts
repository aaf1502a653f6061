import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Registry } from '../base/registry.ts';
import type { Backend, BackendContext, BackendModule } from './backend.ts';
import type { ModelConfig } from './config/types.ts';
import { RepositoryError } from './errors.ts';

/** A Python model of TensorRT-LLM's repositories, known by its tensors, and what serves it here. */
interface KnownModel {
  inputs: readonly string[];
  outputs: readonly string[];
  implementation: string;
}

const known: readonly KnownModel[] = [
  {
    inputs: ['QUERY', 'REQUEST_OUTPUT_LEN'],
    outputs: ['INPUT_ID', 'REQUEST_INPUT_LEN'],
    implementation: 'preprocessing',
  },
  { inputs: ['TOKENS_BATCH'], outputs: ['OUTPUT'], implementation: 'postprocessing' },
  {
    inputs: ['input_ids', 'input_lengths', 'request_output_len'],
    outputs: ['output_ids'],
    implementation: 'tensorrtllm',
  },
  { inputs: ['text_input', 'max_tokens'], outputs: ['text_output'], implementation: 'tensorrt_llm_bls' },
  {
    inputs: ['text_input', 'sampling_param_max_tokens'],
    outputs: ['text_output'],
    implementation: 'llmapi',
  },
];

const implementations = new Registry<BackendModule>('Python model', {
  preprocessing: () => import('./text/preprocessing.ts'),
  postprocessing: () => import('./text/postprocessing.ts'),
  tensorrtllm: () => import('./engine/backend.ts'),
  tensorrt_llm_bls: () => import('./text/bls.ts'),
  llmapi: () => import('./llmapi/backend.ts'),
});

/** The llmapi model's settings come from its 1/model.yaml. */
export async function autoComplete(
  config: ModelConfig,
  files: { folder: string; versions: readonly string[] },
): Promise<void> {
  const found = known.find((model) => fits(model, config));
  if (found) await (await implementations.load(found.implementation)).autoComplete?.(config, files);
}

/**
 * The `python` backend. There is no Python here: the models of TensorRT-LLM's own repositories are served by Nereid's implementations
 * of them, so that those repositories work as they are; any other is refused with the way out.
 * @throws RepositoryError UNSUPPORTED
 */
export async function load(context: BackendContext): Promise<Backend> {
  const found = known.find((model) => fits(model, context.config));
  if (!found) {
    const message =
      `the Python model '${context.name}' cannot run here: Nereid has no Python; write it as 1/model.js and say backend: "node" ` +
      '(docs/triton.md)';
    throw new RepositoryError('UNSUPPORTED', message);
  }
  if (existsSync(join(context.versionFolder, 'model.py'))) {
    const details = { model: context.name, implementation: found.implementation };
    context.logger.info(details, "model.py is not run: Nereid's own implementation of this model is");
  }
  return (await implementations.load(found.implementation)).load(context);
}

function fits({ inputs, outputs }: KnownModel, config: ModelConfig): boolean {
  const has = (tensors: readonly { name: string }[], name: string): boolean =>
    tensors.some((tensor) => tensor.name === name);
  return inputs.every((name) => has(config.input, name)) && outputs.every((name) => has(config.output, name));
}

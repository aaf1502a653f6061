import { parameterText } from '../config/complete.ts';
import type { ModelConfig } from '../config/types.ts';
import { RepositoryError } from '../errors.ts';
import type { InferRequest } from '../model.ts';
import type { Inputs } from './inputs.ts';

/** A feature of TensorRT-LLM that this runtime does not have, with the tensors that ask for it. */
interface MissingFeature {
  feature: string;
  /** Asked for by being there. */
  inputs?: readonly string[];
  /** Asked for by a value other than 0 or false. */
  truths?: readonly string[];
}

const missing: readonly MissingFeature[] = [
  {
    feature: 'encoder-decoder models',
    inputs: [
      'encoder_input_features',
      'encoder_output_lengths',
      'cross_attention_mask',
      'skip_cross_attn_blocks',
    ],
  },
  { feature: 'prompt embedding tables', inputs: ['prompt_embedding_table', 'prompt_table_extra_ids'] },
  {
    feature: 'multimodal embeddings',
    inputs: ['multimodal_embedding', 'mrope_rotary_cos_sin', 'mrope_position_deltas'],
  },
  { feature: 'disaggregated serving', inputs: ['context_phase_params'] },
];

/** @throws RepositoryError UNSUPPORTED naming the feature, the tensor, and what to do */
export function refuseMissingFeatures(request: InferRequest, inputs: Inputs, rows: number): void {
  for (const { feature, inputs: names = [], truths = [] } of missing) {
    const present = names.find((name) => (inputs.get(name)?.data.length ?? 0) > 0);
    if (present) throw unsupported(feature, present);
    for (const name of truths) {
      for (let row = 0; row < rows; row++) if (inputs.truth(name, row)) throw unsupported(feature, name);
    }
  }
  const type = request.parameters.request_type;
  if (type !== undefined && type !== 'context_and_generation') {
    throw unsupported('disaggregated serving', `request_type ${String(type)}`);
  }
}

function unsupported(feature: string, tensor: string): RepositoryError {
  return new RepositoryError(
    'UNSUPPORTED',
    `${feature} is not supported by this engine; send the request without '${tensor}'`,
  );
}

const parametersOfMissing: Readonly<Record<string, string>> = {
  encoder_model_path: 'encoder-decoder models',
  medusa_choices: 'Medusa',
  eagle_choices: 'EAGLE',
};
const plainDecoding = ['top_k', 'top_p', 'top_k_top_p', 'auto', 'lookahead'];

/** The same for a configuration. @throws RepositoryError UNSUPPORTED */
export function refuseMissingParameters(config: ModelConfig): void {
  for (const [key, feature] of Object.entries(parametersOfMissing)) {
    if (parameterText(config, key) !== undefined) {
      throw new RepositoryError(
        'UNSUPPORTED',
        `${feature} is not supported; leave the parameter ${key} of ${config.name} unset`,
      );
    }
  }
  const mode = parameterText(config, 'decoding_mode');
  if (mode !== undefined && !plainDecoding.includes(mode)) {
    throw new RepositoryError(
      'UNSUPPORTED',
      `decoding_mode ${mode} of ${config.name} is not supported; known: ${plainDecoding.join(', ')}`,
    );
  }
}

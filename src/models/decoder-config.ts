import type { Config } from './config.ts';
import type { Hyperparameters } from './hyperparameters.ts';
import { ropeFromConfig } from './rope.ts';

/** What the Llama-like families' `config.json` files have in common. */
export function decoderFromConfig(config: Config, architecture: string): Hyperparameters {
  const width = config.count('hidden_size');
  const heads = config.count('num_attention_heads');
  const headDimension = config.count('head_dim', width / heads);
  const kvHeads = config.count('num_key_value_heads', heads);
  if (heads % kvHeads !== 0) {
    throw config.unsupported('num_key_value_heads', `${kvHeads}`, `it must divide ${heads} heads`);
  }
  config.oneOf('hidden_act', 'silu', ['silu', 'swish']);
  return {
    architecture,
    layers: config.count('num_hidden_layers'),
    width,
    heads,
    kvHeads,
    headDimension,
    feedForwardWidth: config.count('intermediate_size'),
    vocabularySize: config.count('vocab_size'),
    contextLength: config.count('max_position_embeddings'),
    normEpsilon: config.positive('rms_norm_eps', 1e-6),
    rope: ropeFromConfig(config, headDimension),
    tiedEmbeddings: config.boolean('tie_word_embeddings', false),
  };
}

/**
 * Qwen's sliding window: on the layers that `layer_types` marks, or from `max_window_layers` on. Off unless `use_sliding_window`.
 */
export function qwenWindow(config: Config, layers: number): Pick<Hyperparameters, 'window' | 'windowLayers'> {
  if (!config.boolean('use_sliding_window', false) || !config.has('sliding_window')) return {};
  const types = config.strings('layer_types');
  const first = config.index('max_window_layers', 0);
  const windowLayers = Array.from({ length: layers }, (_, layer) =>
    types ? types[layer] === 'sliding_attention' : layer >= first,
  );
  return { window: config.count('sliding_window'), windowLayers };
}

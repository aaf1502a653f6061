import type { Architecture } from './architecture.ts';
import { Config } from './config.ts';
import { decoderFromConfig } from './decoder-config.ts';
import { type MetadataOptions, readMetadata, writeMetadata } from './metadata.ts';
import { decodeRopeDecoder, decoderKv, type RopeDecoderOptions, ropeDecoderWeights } from './rope-decoder.ts';

const metadata: MetadataOptions = { architecture: 'llama', ggufName: 'llama', norm: 'rms', rope: true };
const options: RopeDecoderOptions = {
  ropeMode: 'interleaved',
  queryKeyNorm: false,
  attentionBias: 'optional',
};

/** Llama 1 to 3, and what shares its network: Mistral (a sliding window), SmolLM and SmolLM2 (tied embeddings). */
export const architecture: Architecture = {
  name: 'llama',
  names: ['LlamaForCausalLM', 'MistralForCausalLM'],
  ggufName: 'llama',
  hfPrefix: 'model.',
  hyperparameters(record) {
    const config = new Config(record);
    const p = decoderFromConfig(config, 'llama');
    // Only Mistral's network looks at the field.
    const windowed = config.string('model_type', 'llama') === 'mistral' && config.has('sliding_window');
    return windowed ? { ...p, window: config.count('sliding_window') } : p;
  },
  hyperparametersFromGguf: (reader) => readMetadata(reader, metadata),
  ggufMetadata: (p) => writeMetadata(p, metadata),
  weights: ropeDecoderWeights(options),
  kv: decoderKv,
  graphs: { decode: (g, p, w, batch) => decodeRopeDecoder(g, p, w, batch, options) },
};

import type { Architecture } from './architecture.ts';
import { Config } from './config.ts';
import { decoderFromConfig, qwenWindow } from './decoder-config.ts';
import { type MetadataOptions, readMetadata, writeMetadata } from './metadata.ts';
import { decodeRopeDecoder, decoderKv, type RopeDecoderOptions, ropeDecoderWeights } from './rope-decoder.ts';

const metadata: MetadataOptions = { architecture: 'qwen2', ggufName: 'qwen2', norm: 'rms', rope: true };
const options: RopeDecoderOptions = { ropeMode: 'half', queryKeyNorm: false, attentionBias: 'required' };

/** Qwen 2 and 2.5 (dense): biases on q, k and v. */
export const architecture: Architecture = {
  name: 'qwen2',
  names: ['Qwen2ForCausalLM'],
  ggufName: 'qwen2',
  hfPrefix: 'model.',
  hyperparameters(record) {
    const config = new Config(record);
    const p = decoderFromConfig(config, 'qwen2');
    return { ...p, ...qwenWindow(config, p.layers) };
  },
  hyperparametersFromGguf: (reader) => readMetadata(reader, metadata),
  ggufMetadata: (p) => writeMetadata(p, metadata),
  weights: ropeDecoderWeights(options),
  kv: decoderKv,
  graphs: { decode: (g, p, w, batch) => decodeRopeDecoder(g, p, w, batch, options) },
};

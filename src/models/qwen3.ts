import type { Architecture } from './architecture.ts';
import { Config } from './config.ts';
import { decoderFromConfig, qwenWindow } from './decoder-config.ts';
import { type MetadataOptions, readMetadata, writeMetadata } from './metadata.ts';
import { decodeRopeDecoder, decoderKv, type RopeDecoderOptions, ropeDecoderWeights } from './rope-decoder.ts';

const metadata: MetadataOptions = { architecture: 'qwen3', ggufName: 'qwen3', norm: 'rms', rope: true };
const options: RopeDecoderOptions = { ropeMode: 'half', queryKeyNorm: true, attentionBias: 'optional' };

/** Qwen 3 (dense): q and k normed head by head, head size apart from the width. */
export const architecture: Architecture = {
  name: 'qwen3',
  names: ['Qwen3ForCausalLM'],
  ggufName: 'qwen3',
  hfPrefix: 'model.',
  hyperparameters(record) {
    const config = new Config(record);
    const p = decoderFromConfig(config, 'qwen3');
    return { ...p, ...qwenWindow(config, p.layers) };
  },
  hyperparametersFromGguf: (reader) => readMetadata(reader, metadata),
  ggufMetadata: (p) => writeMetadata(p, metadata),
  weights: ropeDecoderWeights(options),
  kv: decoderKv,
  graphs: { decode: (g, p, w, batch) => decodeRopeDecoder(g, p, w, batch, options) },
};

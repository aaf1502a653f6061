import type { RopeAttributes } from '../graph/ops.ts';
import type { Config } from './config.ts';
import type { RopeHyperparameters, RopeScaling } from './hyperparameters.ts';

/**
 * Rotary embedding from `config.json`: `rope_theta` + `rope_scaling`, or the one `rope_parameters` that transformers 5 writes.
 * @throws ModelError for a scaling type that is not linear, llama3 or yarn
 */
export function ropeFromConfig(config: Config, headDimension: number): RopeHyperparameters {
  const parameters = config.record('rope_parameters') ?? config.record('rope_scaling');
  const theta = parameters?.has('rope_theta')
    ? parameters.positive('rope_theta')
    : config.positive('rope_theta', 10000);
  for (const holder of [config, parameters]) {
    if (holder && holder.positive('partial_rotary_factor', 1) !== 1) {
      throw holder.unsupported('partial_rotary_factor', 'not 1', 'this family turns whole heads only');
    }
  }
  const scaling = parameters && scalingFromConfig(parameters, config);
  return { theta, dimensions: headDimension, ...(scaling && { scaling }) };
}

function scalingFromConfig(parameters: Config, config: Config): RopeScaling | undefined {
  const field = parameters.has('rope_type') ? 'rope_type' : 'type';
  const type = parameters.oneOf(field, 'default', ['default', 'linear', 'llama3', 'yarn']);
  if (type === 'default') return undefined;
  if (type === 'linear') return { type, factor: parameters.positive('factor') };
  const contextLength = config.count('max_position_embeddings');
  const originalContextLength = parameters.count('original_max_position_embeddings', contextLength);
  if (type === 'llama3') {
    return {
      type,
      factor: parameters.positive('factor'),
      lowFrequencyFactor: parameters.positive('low_freq_factor'),
      highFrequencyFactor: parameters.positive('high_freq_factor'),
      originalContextLength,
    };
  }
  const factor = parameters.positive('factor', contextLength / originalContextLength);
  return {
    type: 'yarn',
    factor,
    originalContextLength,
    attentionFactor: yarnAttentionFactor(parameters, factor),
    betaFast: parameters.positive('beta_fast', 32),
    betaSlow: parameters.positive('beta_slow', 1),
  };
}

/** Hugging Face gives the whole magnitude; ggml's factor multiplies its own 1 + 0.1 ln(factor). */
function yarnAttentionFactor(parameters: Config, factor: number): number {
  for (const field of ['mscale', 'mscale_all_dim']) {
    if (parameters.has(field)) throw parameters.unsupported(field, 'given', 'only attention_factor is known');
  }
  if (!parameters.boolean('truncate', true)) {
    throw parameters.unsupported('truncate', 'false', 'correction bounds are whole dimensions');
  }
  const own = 1 + 0.1 * Math.log(factor);
  return parameters.positive('attention_factor', Math.max(1, own)) / own;
}

/** The `rope` op's attributes. Llama 3's factors are a tensor input instead. */
export function ropeAttributes(rope: RopeHyperparameters, mode: RopeAttributes['mode']): RopeAttributes {
  const { theta, dimensions, scaling } = rope;
  const stretched = scaling && scaling.type !== 'llama3';
  return {
    mode,
    dimensions,
    theta,
    frequencyScale: stretched ? 1 / scaling.factor : 1,
    ...(scaling?.type === 'yarn' && {
      yarn: {
        originalContextLength: scaling.originalContextLength,
        extrapolationFactor: 1,
        attentionFactor: scaling.attentionFactor,
        betaFast: scaling.betaFast,
        betaSlow: scaling.betaSlow,
      },
    }),
  };
}

/**
 * Llama 3's divisors of the rotary frequencies (`rope_freqs.weight`), [dimensions / 2]: short wavelengths stay, long ones are stretched
 * by `factor`, and those between are blended. As Meta's `apply_scaling` and transformers' `llama3` type.
 */
export function llama3FrequencyFactors(rope: RopeHyperparameters): Float32Array | undefined {
  const { theta, dimensions, scaling } = rope;
  if (scaling?.type !== 'llama3') return undefined;
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalContextLength } = scaling;
  return Float32Array.from({ length: dimensions / 2 }, (_, pair) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * pair) / dimensions);
    const turns = originalContextLength / wavelength;
    if (turns > highFrequencyFactor) return 1;
    if (turns < lowFrequencyFactor) return factor;
    const smooth = (turns - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

import type { RopeAttributes } from '../../../graph/ops.ts';

/**
 * Turns each pair of a head's leading `dimensions` elements by position · θ^(−2·pair/dimensions), as `ggml_rope_ext` defines it with
 * scaling, frequency factors and YaRN. x is [tokens, heads, headDimension].
 */
export function rope(
  x: Float32Array,
  positions: Int32Array,
  factors: Float32Array | undefined,
  headDimension: number,
  attributes: RopeAttributes,
): Float32Array {
  const { mode, dimensions } = attributes;
  const out = Float32Array.from(x);
  const rowElements = x.length / positions.length;
  for (let start = 0; start < x.length; start += headDimension) {
    const position = positions[Math.floor(start / rowElements)] as number;
    for (let pair = 0; pair < dimensions / 2; pair++) {
      const { angle, magnitude } = turn(position, pair, factors?.[pair] ?? 1, attributes);
      const first = start + (mode === 'interleaved' ? 2 * pair : pair);
      const second = mode === 'interleaved' ? first + 1 : first + dimensions / 2;
      const cos = Math.cos(angle) * magnitude;
      const sin = Math.sin(angle) * magnitude;
      out[first] = (x[first] as number) * cos - (x[second] as number) * sin;
      out[second] = (x[first] as number) * sin + (x[second] as number) * cos;
    }
  }
  return out;
}

function turn(
  position: number,
  pair: number,
  factor: number,
  attributes: RopeAttributes,
): { angle: number; magnitude: number } {
  const { dimensions, theta, frequencyScale, yarn } = attributes;
  const unscaled = (position * theta ** ((-2 * pair) / dimensions)) / factor;
  const scaled = unscaled * frequencyScale;
  if (!yarn) return { angle: scaled, magnitude: 1 };
  if (yarn.extrapolationFactor === 0) return { angle: scaled, magnitude: yarn.attentionFactor };
  const mix = yarnRamp(pair, attributes, yarn) * yarn.extrapolationFactor;
  return {
    angle: scaled * (1 - mix) + unscaled * mix,
    magnitude: yarn.attentionFactor * (1 + 0.1 * Math.log(1 / frequencyScale)),
  };
}

type Yarn = NonNullable<RopeAttributes['yarn']>;

/** 1 for pairs that turn fast (kept as trained), 0 for slow ones (interpolated), a ramp between. */
function yarnRamp(pair: number, { dimensions, theta }: RopeAttributes, yarn: Yarn): number {
  // The pair that makes so many turns within the original context.
  const pairOf = (turns: number) =>
    (dimensions * Math.log(yarn.originalContextLength / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const low = Math.max(0, Math.floor(pairOf(yarn.betaFast)));
  const high = Math.min(dimensions - 1, Math.ceil(pairOf(yarn.betaSlow)));
  const along = (pair - low) / Math.max(0.001, high - low);
  return 1 - Math.min(1, Math.max(0, along));
}

import type { RopeAttributes } from '../../graph/ops.ts';

/**
 * The angle of each pair at position 1: with every kind of scaling that the op has, angles grow linearly with the position, so that this
 * is all a kernel needs. Computed in float64, as the reference device does.
 */
export function ropeFrequencies(attributes: RopeAttributes, factors?: Float32Array): Float32Array {
  const { dimensions, theta, frequencyScale, yarn } = attributes;
  return Float32Array.from({ length: dimensions / 2 }, (_, pair) => {
    const unscaled = theta ** ((-2 * pair) / dimensions) / (factors?.[pair] ?? 1);
    const scaled = unscaled * frequencyScale;
    if (!yarn || yarn.extrapolationFactor === 0) return scaled;
    const mix = yarnRamp(pair, attributes, yarn) * yarn.extrapolationFactor;
    return scaled * (1 - mix) + unscaled * mix;
  });
}

/** What sines and cosines are multiplied by. */
export function ropeMagnitude({ frequencyScale, yarn }: RopeAttributes): number {
  if (!yarn) return 1;
  if (yarn.extrapolationFactor === 0) return yarn.attentionFactor;
  return yarn.attentionFactor * (1 + 0.1 * Math.log(1 / frequencyScale));
}

type Yarn = NonNullable<RopeAttributes['yarn']>;

/** 1 for pairs that turn fast (kept as trained), 0 for slow ones (interpolated), a ramp between. */
function yarnRamp(pair: number, { dimensions, theta }: RopeAttributes, yarn: Yarn): number {
  const pairOf = (turns: number) =>
    (dimensions * Math.log(yarn.originalContextLength / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const low = Math.max(0, Math.floor(pairOf(yarn.betaFast)));
  const high = Math.min(dimensions - 1, Math.ceil(pairOf(yarn.betaSlow)));
  const along = (pair - low) / Math.max(0.001, high - low);
  return 1 - Math.min(1, Math.max(0, along));
}

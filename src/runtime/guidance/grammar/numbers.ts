import type { GrammarText } from './grammar-text.ts';
import { type CharacterPattern, prefixTree } from './prefix-tree.ts';

/** Bounds of a number; exclusive ones are moved in by one unit of what is written. */
export interface NumberBounds {
  min: number;
  max: number;
  isMinOpen: boolean;
  isMaxOpen: boolean;
}

/** Digits in front of the point: no text of digits goes on for ever, and none leaves the doubles. */
const digitsMax = 15;
const largest = 10 ** digitsMax - 1;
/** Digits behind the point, where bounds matter. */
const decimalsMax = 6;

/** Any JSON integer. */
export const anyInteger = `"-"? ("0" | [1-9] [0-9]{0,${digitsMax - 1}})`;
/** Any JSON number. */
export const anyNumber = `${anyInteger} ("." [0-9]{1,${digitsMax}})? ([eE] [+\\-]? [0-9]{1,2})?`;

/** A body for integers within bounds; undefined if there are none. */
export function integerBody(bounds: NumberBounds, grammar: GrammarText): string | undefined {
  const patterns = scaledPatterns(bounds, 0);
  return patterns.length === 0 ? undefined : prefixTree(patterns, grammar);
}

/** A body for numbers within bounds, with up to a few decimals; undefined if there are none. */
export function numberBody(bounds: NumberBounds, grammar: GrammarText): string | undefined {
  const decimals = Math.min(decimalsMax, Math.max(2, decimalsOf(bounds.min), decimalsOf(bounds.max)));
  const patterns: CharacterPattern[] = [];
  for (let count = 0; count <= decimals; count++) patterns.push(...scaledPatterns(bounds, count));
  return patterns.length === 0 ? undefined : prefixTree(patterns, grammar);
}

function decimalsOf(value: number): number {
  if (!Number.isFinite(value)) return 0;
  const [, fraction = '', exponent = '0'] = /^-?\d+(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(value)) ?? [];
  return Math.max(0, fraction.length - Number(exponent));
}

/** Numbers of so many decimals, as the integers that they are without their point. */
function scaledPatterns(
  { min, max, isMinOpen, isMaxOpen }: NumberBounds,
  decimals: number,
): CharacterPattern[] {
  const scale = 10 ** decimals;
  const limit = Math.min(Number.MAX_SAFE_INTEGER, largest * scale);
  let low = Math.max(-limit, Math.ceil(min * scale - 1e-9));
  let high = Math.min(limit, Math.floor(max * scale + 1e-9));
  // Rounding in the product must let nothing in.
  while (low / scale < min || (isMinOpen && low / scale <= min)) low++;
  while (high / scale > max || (isMaxOpen && high / scale >= max)) high--;
  if (low > high) return [];
  const patterns: CharacterPattern[] = [];
  if (low < 0) {
    const parts = rangeOf(Math.max(0, -high, decimals === 0 ? 1 : 0), -low);
    patterns.push(...parts.map((digits) => [minus, ...pointed(digits, decimals)]));
  }
  if (high >= 0) {
    patterns.push(...rangeOf(Math.max(0, low), high).map((digits) => pointed(digits, decimals)));
  }
  return patterns;
}

type Digit = readonly [low: number, high: number];

/** All integers from `low` to `high`, as patterns of digits. */
function rangeOf(low: number, high: number): Digit[][] {
  const patterns: Digit[][] = [];
  for (let from = low; from <= high; ) {
    const length = String(from).length;
    const to = Math.min(high, 10 ** length - 1);
    patterns.push(...sameLength(String(from), String(to)));
    from = to + 1;
  }
  return patterns;
}

/** As {@link rangeOf}, of two numbers with equally many digits. */
function sameLength(low: string, high: string): Digit[][] {
  if (low === '') return [[]];
  const [first, last] = [Number(low[0]), Number(high[0])];
  const rest = low.length - 1;
  if (first === last) return sameLength(low.slice(1), high.slice(1)).map((tail) => [[first, first], ...tail]);
  const isLowOpen = /^0*$/.test(low.slice(1));
  const isHighOpen = /^9*$/.test(high.slice(1));
  const any: Digit[] = Array.from({ length: rest }, () => [0, 9] as const);
  const patterns: Digit[][] = [];
  if (!isLowOpen)
    patterns.push(
      ...sameLength(low.slice(1), '9'.repeat(rest)).map((tail) => [[first, first] as const, ...tail]),
    );
  const [from, to] = [isLowOpen ? first : first + 1, isHighOpen ? last : last - 1];
  if (from <= to) patterns.push([[from, to], ...any]);
  if (!isHighOpen)
    patterns.push(
      ...sameLength('0'.repeat(rest), high.slice(1)).map((tail) => [[last, last] as const, ...tail]),
    );
  return patterns;
}

const minus = [0x2d, 0x2d] as const;
const point = [0x2e, 0x2e] as const;
const zero = 0x30;

/** Digits as characters, with the point where it belongs. */
function pointed(digits: readonly Digit[], decimals: number): CharacterPattern {
  const padded: Digit[] = [...digits];
  while (padded.length <= decimals) padded.unshift([0, 0]);
  const pattern = padded.map(([low, high]) => [zero + low, zero + high] as const);
  return decimals === 0 ? pattern : [...pattern.slice(0, -decimals), point, ...pattern.slice(-decimals)];
}

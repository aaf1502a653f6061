import { CheckpointError } from './errors.ts';

/** The longest module pattern, and the most quantifiers in one: matching stays fast whatever an adapter from a stranger says. */
export const modulePatternLengthMax = 256;
export const modulePatternQuantifiersMax = 2;

/**
 * A key of PEFT's `rank_pattern` or `alpha_pattern`: a module name or a regular expression that must match a module's whole path or
 * its end after a dot (`get_pattern_key` in PEFT).
 * @throws CheckpointError for an expression that could take exponential time
 */
export function modulePattern(path: string, key: string): RegExp {
  const quantifiers = key.match(/[*+]|\{\d/g)?.length ?? 0;
  const nested = /\)[*+{]/.test(key);
  const special = /\(\?|\\[1-9k]/.test(key);
  const tooMuch = quantifiers > modulePatternQuantifiersMax || key.length > modulePatternLengthMax;
  if (nested || special || tooMuch) throw refusePattern(path, key);
  try {
    return new RegExp(`^(?:.*\\.)?(?:${key})$`);
  } catch {
    throw refusePattern(path, key);
  }
}

function refusePattern(path: string, key: string): CheckpointError {
  const problem = `${path}: the module pattern '${key.slice(0, 80)}' is no simple name or regular expression`;
  const fix = `write module names, or expressions with at most ${modulePatternQuantifiersMax} quantifiers and none after a group`;
  return new CheckpointError('LORA_UNSUPPORTED', `${problem}; ${fix}`);
}

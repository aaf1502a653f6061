import { CheckpointError } from './errors.ts';

/**
 * What a module pattern may hold. Together with {@link patternStepsMax} it keeps matching fast whatever an adapter from a stranger
 * says: backtracking is exponential in choices and polynomial in quantifiers.
 */
export const patternLimits = { lengthMax: 256, quantifiersMax: 2, alternativesMax: 8 } as const;

/** Steps that matching all patterns of an adapter with all its modules may take, in the worst case: a few seconds. */
export const patternStepsMax = 1e9;

/** A key of PEFT's `rank_pattern` or `alpha_pattern`. */
export class ModulePattern {
  readonly #expression: RegExp;
  readonly #quantifiers: number;
  readonly #alternatives: number;

  /**
   * @param path of the config, for errors
   * @param key a module name or a regular expression
   * @throws CheckpointError for an expression that could take long
   */
  constructor(path: string, key: string) {
    this.#quantifiers = key.match(/[*+?]|\{\d/g)?.length ?? 0;
    this.#alternatives = key.match(/\|/g)?.length ?? 0;
    const repeatedGroup = /\)[*+?{]/.test(key);
    const lookOrReference = /\(\?|\\[1-9k]/.test(key);
    const many =
      this.#quantifiers > patternLimits.quantifiersMax || this.#alternatives > patternLimits.alternativesMax;
    if (repeatedGroup || lookOrReference || many || key.length > patternLimits.lengthMax) {
      throw refusePattern(path, key);
    }
    try {
      this.#expression = new RegExp(`^(?:${key})$`);
    } catch {
      throw refusePattern(path, key);
    }
  }

  /** Whether it matches the module's whole path, or all of it after a dot (`get_pattern_key` in PEFT). */
  matches(module: string): boolean {
    for (let start = 0; ; ) {
      if (this.#expression.test(module.slice(start))) return true;
      const dot = module.indexOf('.', start);
      if (dot < 0) return false;
      start = dot + 1;
    }
  }

  /** The most steps that {@link matches} can take. */
  stepsMax(module: string): number {
    const starts = module.split('.').length;
    return starts * module.length ** Math.max(1, this.#quantifiers) * 2 ** this.#alternatives;
  }
}

function refusePattern(path: string, key: string): CheckpointError {
  const problem = `${path}: the module pattern '${key.slice(0, 80)}' is no simple name or regular expression`;
  const { quantifiersMax, alternativesMax } = patternLimits;
  const fix = `write module names, or expressions with at most ${quantifiersMax} quantifiers, ${alternativesMax} alternatives and no repeated group`;
  return new CheckpointError('LORA_UNSUPPORTED', `${problem}; ${fix}`);
}

import { TokenizerError } from './errors.ts';
import { type Component, flatten } from './tokenizer-json.ts';

/** Split behaviours that the library carries out; it would treat any other as `Isolated`. */
const behaviours = new Set(['isolated', 'removed']);

/**
 * The pre-tokenizer with regexes that cost the square of a text's length replaced by equal ones that do not: `\s+$` tries every
 * start within a run of spaces, so it may only start where a run does.
 * @throws TokenizerError TOKENIZER_UNSUPPORTED for a Split behaviour that the library would silently get wrong
 */
export function guardRegexes(preTokenizer: Component | null): Component | null {
  if (!preTokenizer) return null;
  const pretokenizers = flatten(preTokenizer).map((part): Component => {
    if (part.type !== 'Split') return part;
    const behaviour = String(part.behavior ?? '').toLowerCase();
    if (part.invert !== true && !behaviours.has(behaviour))
      throw new TokenizerError(
        'TOKENIZER_UNSUPPORTED',
        `tokenizer.json: Split with behavior '${part.behavior}' is not supported`,
      );
    const pattern = part.pattern as { Regex?: unknown } | undefined;
    return pattern?.Regex === '\\s+$' ? { ...part, pattern: { Regex: '(?<!\\s)\\s+$' } } : part;
  });
  return { type: 'Sequence', pretokenizers };
}

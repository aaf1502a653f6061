import { TokenizerError } from './errors.ts';
import { type Component, flatten } from './tokenizer-json.ts';

/** Signs: Unicode punctuation and what ASCII has beside it. */
const punctuation = '[\\p{P}!-/:-@\\[-`{-~]';

/** A text as a regex that matches it. */
function literal(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}

/**
 * `\s+$` tries every start within a run of spaces, the square of its length; equal to it, but only tried where a run starts.
 */
const linearRegexes = new Map([['\\s+$', '(?<!\\s)\\s+$']]);

/** A pattern that, isolating its matches, cuts as the behaviour would with the regex. */
const isolating: Record<string, (regex: string) => string> = {
  isolated: (regex) => regex,
  contiguous: (regex) => `(?:${regex})+`,
  // Everything up to and with a match; then what is left.
  mergedwithprevious: (regex) => `[\\s\\S]*?(?:${regex})|[\\s\\S]+`,
  // A match and everything up to the next; before the first, everything up to it.
  mergedwithnext: (regex) => `(?:${regex})(?:(?!${regex})[\\s\\S])*|(?:(?!${regex})[\\s\\S])+`,
};

function split(Regex: string, behavior: string, invert = false): Component {
  return { type: 'Split', pattern: { Regex }, behavior, invert };
}

/** One part of a pre-tokenizer as the library carries it out correctly. */
function translated(part: Component): Component {
  switch (part.type) {
    case 'Digits':
      // The library's digits are ASCII only.
      return split(part.individual_digits === true ? '\\p{N}' : '\\p{N}+', 'Isolated');
    case 'Punctuation':
      return translated(split(punctuation, String(part.behavior ?? 'Isolated')));
    case 'Whitespace':
      return split('[\\p{L}\\p{M}\\p{Nd}\\p{Pc}]+|[^\\s\\p{L}\\p{M}\\p{Nd}\\p{Pc}]+', 'Removed', true);
    case 'WhitespaceSplit':
      return split('\\S+', 'Removed', true);
    case 'Split':
      return translatedSplit(part);
    case 'Metaspace':
      return translatedMetaspace(part);
    default:
      return part;
  }
}

/** The library never cuts before the marks; `tokenizers` does unless told otherwise. */
function translatedMetaspace(part: Component): Component {
  if (part.split === false) return part;
  const mark = literal(typeof part.replacement === 'string' ? part.replacement : '\u2581');
  return { type: 'Sequence', pretokenizers: [part, translatedSplit(split(mark, 'MergedWithNext'))] };
}

function translatedSplit(part: Component): Component {
  const { Regex, String: text } = (part.pattern ?? {}) as { Regex?: unknown; String?: unknown };
  const source = typeof Regex === 'string' ? Regex : typeof text === 'string' ? literal(text) : undefined;
  if (source === undefined)
    throw new TokenizerError(
      'TOKENIZER_INVALID',
      'tokenizer.json: a Split has no pattern; fetch the file again',
    );
  const regex = linearRegexes.get(source) ?? source;
  const behavior = String(part.behavior ?? 'Isolated').toLowerCase();
  const inverted = part.invert === true;
  if (behavior === 'removed') return split(regex, 'Removed', inverted);
  const isolated = isolating[behavior];
  // Inverted, what lies between the matches is the match; only with `Removed` does that differ from `Isolated` in the field's files.
  if (!isolated || (inverted && behavior !== 'isolated'))
    throw new TokenizerError(
      'TOKENIZER_UNSUPPORTED',
      `tokenizer.json: Split with behavior '${part.behavior}'${inverted ? ' inverted' : ''} is not supported`,
    );
  return split(isolated(regex), 'Isolated');
}

/**
 * The pre-tokenizer in terms that the library gets right: it knows only some split behaviours (and treats others as `Isolated`), and takes
 * digits and words as ASCII.
 * @throws TokenizerError TOKENIZER_UNSUPPORTED, TOKENIZER_INVALID
 */
export function translatedPreTokenizer(preTokenizer: Component | null): Component | null {
  if (!preTokenizer) return null;
  return { type: 'Sequence', pretokenizers: flatten(preTokenizer).map(translated) };
}

/** @throws TokenizerError TOKENIZER_INVALID for a Replace without a pattern, which the library would only warn of */
export function checkedNormalizer(normalizer: Component | null): Component | null {
  for (const part of flatten(normalizer)) {
    const { Regex, String: text } = (part.pattern ?? {}) as { Regex?: unknown; String?: unknown };
    if (part.type === 'Replace' && typeof Regex !== 'string' && typeof text !== 'string')
      throw new TokenizerError(
        'TOKENIZER_INVALID',
        'tokenizer.json: a Replace has no pattern; fetch the file again',
      );
  }
  return normalizer;
}

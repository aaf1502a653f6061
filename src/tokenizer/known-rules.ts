import { gpt2Regex, preTokenizers } from './pre-tokenizers.ts';
import { type Component, flatten, type TokenizerJson } from './tokenizer-json.ts';

/** The regexes of the field's own tokenizers, all known to end soon on any text. */
const knownRegexes = new Set([gpt2Regex, ...preTokenizers.flatMap((row) => row.regexes)]);

/** Single characters and classes, with no repetition but at the very end: nothing to go back to. */
const simpleRegex = /^(?:\\.(?:\{\w+\})?|\[(?:[^\]\\]|\\.)*\]|[^\\[\](){}|*+?])+(?:[+*]|\{\d+,?\d*\})?$/u;

/**
 * Whether every regex of a tokenizer is known to end soon. One that is not may take exponential time on a short text (`(a+)+$`): such
 * a tokenizer only runs where it can be stopped.
 */
export function hasKnownRules(json: TokenizerJson): boolean {
  return [...flatten(json.normalizer), ...flatten(json.pre_tokenizer)].every(isKnown);
}

function isKnown(part: Component): boolean {
  const { Regex } = (part.pattern ?? {}) as { Regex?: unknown };
  if (Regex === undefined) return true;
  return typeof Regex === 'string' && (knownRegexes.has(Regex) || simpleRegex.test(Regex));
}

/** Normalizers that never make a text shorter, or by a known factor at most (composed characters: four units to one). */
const shrinking: Readonly<Record<string, number>> = {
  NFC: 4,
  NFKC: 4,
  NFD: 1,
  NFKD: 1,
  Prepend: 1,
  Lowercase: 4,
};
/** Parts that cut a text and drop nothing of it. */
const lossless = new Set(['ByteLevel', 'Digits', 'Metaspace', 'Punctuation', 'Split']);

/**
 * UTF-16 units of text that one token can stand for at most, for refusing a text that cannot fit a context before it is encoded;
 * undefined where no such bound is known.
 * @param tokenLengthMax the longest token as the vocabulary writes it
 */
export function unitsPerTokenMax(json: TokenizerJson, tokenLengthMax: number): number | undefined {
  const isByteLevel = flatten(json.pre_tokenizer).at(-1)?.type === 'ByteLevel';
  // Without bytes for what it does not know, one unknown token may stand for any length.
  if (json.model.merges === undefined || (!isByteLevel && json.model.byte_fallback !== true))
    return undefined;
  let factor = 1;
  for (const part of flatten(json.normalizer)) {
    const shrinks = part.type === 'Replace' ? replaceFactor(part) : shrinking[part.type];
    if (shrinks === undefined) return undefined;
    factor *= shrinks;
  }
  const drops = flatten(json.pre_tokenizer).some(
    (part) => !lossless.has(part.type) || String(part.behavior ?? '').toLowerCase() === 'removed',
  );
  return drops ? undefined : factor * tokenLengthMax;
}

function replaceFactor(part: Component): number | undefined {
  const { String: text } = (part.pattern ?? {}) as { String?: unknown };
  if (typeof text !== 'string' || typeof part.content !== 'string' || part.content.length === 0)
    return undefined;
  return Math.max(1, text.length / part.content.length);
}

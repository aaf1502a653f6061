import { byteOfByteToken } from './byte-alphabet.ts';
import { TokenizerError } from './errors.ts';
import { type GgufVocabulary, tokenTypes } from './gguf-vocabulary.ts';
import { JsonTokenizer, type TokenizerFiles } from './json-tokenizer.ts';
import { gpt2Regex, preTokenizers } from './pre-tokenizers.ts';
import { decodeRuleOf } from './token-bytes.ts';
import {
  type Component,
  flatten,
  parseTokenizerConfig,
  parseTokenizerJson,
  type TokenizerJson,
} from './tokenizer-json.ts';

/** Regexes that spell the same words in another way, in tokenizer.json files of the field. */
const spellings = new Map([
  // OpenAI's own spelling of the contractions, and possessive quantifiers, which change nothing here.
  ["(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"],
  ["'(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"],
  ['?+', '?'],
  ['++', '+'],
  ['\r', '\\r'],
  ['\n', '\\n'],
]);

/** One spelling for regexes that mean the same, good enough to tell pre-tokenizers apart. */
function canonical(regex: string): string {
  let text = regex;
  for (const [from, to] of spellings) text = text.replaceAll(from, to);
  return text;
}

/** The regexes that a pre-tokenizer applies, one after the other; undefined where a part is none. */
function regexesOf(preTokenizer: Component | null | undefined): string[] | undefined {
  const regexes: string[] = [];
  for (const part of flatten(preTokenizer)) {
    if (part.type === 'ByteLevel') {
      if (part.add_prefix_space === true) return undefined;
      if (part.use_regex !== false) regexes.push(gpt2Regex);
    } else if (part.type === 'Digits') {
      regexes.push(part.individual_digits === true ? '\\p{N}' : '\\p{N}+');
    } else if (part.type === 'Split') {
      const regex = (part.pattern as { Regex?: unknown } | undefined)?.Regex;
      if (typeof regex !== 'string') return undefined;
      regexes.push(regex);
    } else return undefined;
  }
  return regexes.map(canonical);
}

/** llama.cpp's name for a tokenizer.json's pre-tokenizer, if it has one. */
export function preTokenizerNameOf(json: TokenizerJson): string | undefined {
  const regexes = regexesOf(json.pre_tokenizer);
  if (!regexes) return undefined;
  const isSame = (row: readonly string[]) =>
    row.length === regexes.length && row.every((regex, i) => canonical(regex) === regexes[i]);
  const rows = preTokenizers.filter((row) => isSame(row.regexes));
  const ignoreMerges = json.model.ignore_merges === true;
  const best = rows.find((row) => (row.ignoreMerges ?? false) === ignoreMerges) ?? rows[0];
  return best?.names[0];
}

/** Texts of the ids `0 … size − 1`; holes and padding get a name that no text has. */
function tokensOf(tokenizer: JsonTokenizer, size: number): string[] {
  return Array.from({ length: size }, (_, id) => tokenizer.token(id) ?? `[PAD${id}]`);
}

function typesOf(
  tokenizer: JsonTokenizer,
  json: TokenizerJson,
  size: number,
  byteFallback: boolean,
): Int32Array {
  const added = new Map(json.added_tokens.map((token) => [token.id, token]));
  return Int32Array.from({ length: size }, (_, id) => {
    const token = tokenizer.token(id);
    if (token === undefined) return tokenTypes.unused;
    if (byteFallback && token === json.model.unk_token) return tokenTypes.unknown;
    const entry = added.get(id);
    if (entry) return entry.special ? tokenTypes.control : tokenTypes.userDefined;
    return byteFallback && byteOfByteToken(token) >= 0 ? tokenTypes.byte : tokenTypes.normal;
  });
}

/** SentencePiece scores that give merges' order back: a piece scores by the first merge that makes it, a lone character below all. */
function scoresOf(
  tokens: readonly string[],
  types: Int32Array,
  merges: readonly (readonly [string, string])[],
): Float32Array {
  const ranks = new Map<string, number>();
  for (const [left, right] of merges) if (!ranks.has(left + right)) ranks.set(left + right, ranks.size);
  return Float32Array.from(tokens, (token, id) => {
    const type = types[id];
    if (type !== tokenTypes.normal)
      return type === tokenTypes.userDefined || type === tokenTypes.unused ? -1000 : 0;
    // Float32 is exact to 2^24, more than any vocabulary.
    return -(ranks.get(token) ?? ranks.size + id);
  });
}

function mergesOf(json: TokenizerJson): [string, string][] {
  const merges = Array.isArray(json.model.merges) ? (json.model.merges as unknown[]) : [];
  return merges.map((merge) => {
    const [left = '', right = ''] = typeof merge === 'string' ? merge.split(' ') : (merge as string[]);
    return [left, right];
  });
}

/** GGUF joins a merge by a space, so it cannot hold one whose tokens contain spaces. */
function joined([left, right]: readonly [string, string]): string {
  if (!left.includes(' ') && !right.includes(' ')) return `${left} ${right}`;
  throw new TokenizerError(
    'TOKENIZER_UNSUPPORTED',
    `GGUF cannot hold the merge of '${left}' and '${right}': a token has a space`,
  );
}

/**
 * A tokenizer folder's vocabulary in GGUF's terms. Where GGUF has no name for the pre-tokenizer, `pre` is `default` and `warnings` says
 * so: other readers of the file would then split words in their own way; the tokenizer folder stays the truth.
 * @param size how many ids to write, for a model whose embedding has more rows than the vocabulary has tokens
 * @throws TokenizerError TOKENIZER_UNSUPPORTED for kinds of tokenizers that GGUF (or we) cannot hold
 */
export function ggufVocabularyFromTokenizerJson(files: TokenizerFiles, size?: number): GgufVocabulary {
  const tokenizer = new JsonTokenizer(files);
  const json = parseTokenizerJson(files['tokenizer.json']);
  const rule = decodeRuleOf(json.decoder);
  if (!Array.isArray(json.model.merges))
    throw new TokenizerError(
      'TOKENIZER_UNSUPPORTED',
      `a GGUF cannot be written with a ${json.model.type ?? 'non-BPE'} tokenizer yet; only BPE`,
    );
  const count = Math.max(size ?? 0, tokenizer.vocabularySize);
  const tokens = tokensOf(tokenizer, count);
  const merges = mergesOf(json);
  const affixes = tokenizer.encode('');
  const common = {
    tokens,
    ...idsOf(tokenizer, files),
    addBos: tokenizer.bosTokenId !== undefined && affixes[0] === tokenizer.bosTokenId,
    addEos:
      tokenizer.eosTokenId !== undefined &&
      affixes.length > 0 &&
      affixes.at(-1) === tokenizer.eosTokenId &&
      affixes.at(-1) !== affixes[0],
    chatTemplate: tokenizer.chatTemplate,
  };
  if (rule.style === 'byte-level') {
    const pre = preTokenizerNameOf(json);
    const unnamed =
      'the pre-tokenizer of tokenizer.json has no name in GGUF; other readers of this file may split words differently';
    const warnings = pre === undefined ? [unnamed] : [];
    if (json.normalizer && flatten(json.normalizer).length > 0)
      warnings.push(
        `GGUF has no place for the normalizer (${flatten(json.normalizer).map((part) => part.type)})`,
      );
    const tokenTypes = typesOf(tokenizer, json, count, false);
    return {
      ...common,
      model: 'gpt2',
      pre: pre ?? 'default',
      merges: merges.map(joined),
      tokenTypes,
      warnings,
    };
  }
  if (rule.style !== 'metaspace' || !rule.byteFallback)
    throw new TokenizerError(
      'TOKENIZER_UNSUPPORTED',
      `GGUF has no kind for a BPE with a '${rule.style}' decoder`,
    );
  const types = typesOf(tokenizer, json, count, true);
  return {
    ...common,
    model: 'llama',
    pre: 'default',
    scores: scoresOf(tokens, types, merges),
    tokenTypes: types,
    addSpacePrefix: tokenizer
      .decode(tokenizer.encode('a', { addSpecialTokens: false }), { continuation: true })
      .startsWith(' '),
    warnings: [],
  };
}

function idsOf(tokenizer: JsonTokenizer, files: TokenizerFiles) {
  const config = parseTokenizerConfig(files['tokenizer_config.json'] ?? '{}');
  const nameOf = (value: unknown) =>
    typeof value === 'string' ? value : (value as { content?: string } | null | undefined)?.content;
  const idOf = (value: unknown) => {
    const name = nameOf(value);
    return name === undefined ? undefined : tokenizer.tokenId(name);
  };
  return {
    bosTokenId: tokenizer.bosTokenId,
    eosTokenId: tokenizer.eosTokenId,
    // What ends a turn, if that is another token than what ends a text.
    eotTokenId: tokenizer.stopTokenIds.find((id) => id !== tokenizer.eosTokenId),
    unknownTokenId: idOf(config.unk_token),
    paddingTokenId: idOf(config.pad_token),
  };
}

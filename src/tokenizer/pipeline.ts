import { Tokenizer as Library } from '@huggingface/tokenizers';
import { assert, messageOf } from '../base/errors.ts';
import { type AddedToken, AddedTokenSplitter } from './added-tokens.ts';
import { BpeModel } from './bpe-model.ts';
import { TokenizerError } from './errors.ts';
import { normalizeInParts } from './mark-runs.ts';
import { type Merge, mergesMax } from './merge-table.ts';
import { gpt2Regex } from './pre-tokenizers.ts';
import { checkedNormalizer, translatedPreTokenizer } from './split-rules.ts';
import { TokenList } from './token-list.ts';
import { type Component, flatten, type TokenizerJson } from './tokenizer-json.ts';
import type { Vocabulary } from './vocabulary.ts';

/** What is used of the library. Its declarations import without suffixes, which TypeScript's nodenext cannot follow. */
interface LibraryTokenizer {
  readonly normalizer: ((text: string) => string) | null;
  readonly pre_tokenizer: {
    pre_tokenize_text(text: string, options: { section_index: number }): string[];
  } | null;
  readonly post_processor:
    | ((tokens: string[], pair: null, addSpecialTokens: boolean) => { tokens: string[] })
    | null;
  readonly model: ((words: string[]) => string[]) | null;
}

/** Turns one pre-tokenized word into ids. */
interface WordModel {
  encodeWord(word: string, out: TokenList): void;
}

/**
 * Text → ids as a tokenizer.json describes it. Normalizers, pre-tokenizers, post-processors and the Unigram and WordPiece models are
 * the `@huggingface/tokenizers` library's; BPE and the search for added tokens are ours (three times as fast, and linear on hostile text).
 */
export class Pipeline {
  readonly #library: LibraryTokenizer;
  readonly #vocabulary: Vocabulary;
  readonly #model: WordModel;
  readonly #added: readonly AddedToken[];
  readonly #splitters = new Map<boolean, { raw: AddedTokenSplitter; normalized: AddedTokenSplitter }>();

  /** @throws TokenizerError TOKENIZER_INVALID, TOKENIZER_UNSUPPORTED */
  constructor(json: TokenizerJson, vocabulary: Vocabulary, added: readonly AddedToken[]) {
    this.#vocabulary = vocabulary;
    this.#added = added;
    const isBpe = modelTypeOf(json) === 'BPE';
    // A part after ByteLevel (Falcon has one) works on the bytes' characters: there the library maps them and BPE sees characters.
    const byteLevel = isBpe && flatten(json.pre_tokenizer).at(-1)?.type === 'ByteLevel';
    this.#library = openLibrary(json, isBpe, byteLevel);
    this.#model = isBpe ? new BpeModel(bpeOptions(json, vocabulary, byteLevel)) : this.#libraryModel(json);
  }

  #libraryModel(json: TokenizerJson): WordModel {
    const model = this.#library.model;
    assert(model, 'the library made no model');
    const unknown =
      this.#vocabulary.ids.get(String(json.model.unk_token ?? '')) ?? Number(json.model.unk_id ?? -1);
    return {
      encodeWord: (word, out) => {
        for (const token of model([word])) {
          const id = this.#vocabulary.ids.get(token) ?? unknown;
          if (id >= 0) out.push(id);
        }
      },
    };
  }

  /** @param text well-formed UTF-16 */
  encode(text: string, parseSpecialTokens: boolean): Int32Array {
    const out = new TokenList();
    const { raw, normalized } = this.#splitter(parseSpecialTokens);
    const normalizer = this.#library.normalizer;
    for (const [index, piece] of raw.split(text).entries()) {
      if (typeof piece !== 'string') {
        out.push(piece.id);
        continue;
      }
      const clean = normalizer ? normalizeInParts(piece, normalizer) : piece;
      for (const part of normalized.split(clean)) {
        if (typeof part === 'string') this.#encodePart(part, index, out);
        else out.push(part.id);
      }
    }
    return out.toArray();
  }

  #encodePart(text: string, sectionIndex: number, out: TokenList): void {
    const preTokenizer = this.#library.pre_tokenizer;
    const words = preTokenizer
      ? preTokenizer.pre_tokenize_text(text, { section_index: sectionIndex })
      : [text];
    for (const word of words) if (word.length > 0) this.#model.encodeWord(word, out);
  }

  /** What the post-processor puts before and after a text. */
  affixes(): { before: number[]; after: number[] } {
    const probe = '\u0000probe';
    const processed = this.#library.post_processor?.([probe], null, true)?.tokens ?? [probe];
    const at = processed.indexOf(probe);
    if (at < 0)
      throw new TokenizerError(
        'TOKENIZER_INVALID',
        'tokenizer.json: the post-processor drops the text; fetch the file again',
      );
    const ids = (tokens: string[]) =>
      tokens.map((token) => this.#vocabulary.ids.get(token)).filter((id) => id !== undefined);
    return { before: ids(processed.slice(0, at)), after: ids(processed.slice(at + 1)) };
  }

  #splitter(parseSpecialTokens: boolean): { raw: AddedTokenSplitter; normalized: AddedTokenSplitter } {
    const known = this.#splitters.get(parseSpecialTokens);
    if (known) return known;
    const matched = this.#added.filter((token) => parseSpecialTokens || !token.special);
    const normalizer = this.#library.normalizer;
    const isNormalized = (token: AddedToken) => token.normalized && normalizer !== null;
    const made = {
      raw: new AddedTokenSplitter(
        matched.filter((token) => !isNormalized(token)).map((token) => [token.content, token]),
      ),
      normalized: new AddedTokenSplitter(
        matched.filter(isNormalized).map((token) => [normalizer?.(token.content) ?? token.content, token]),
      ),
    };
    this.#splitters.set(parseSpecialTokens, made);
    return made;
  }
}

/** The model's type; files from before 2021 leave it out. */
function modelTypeOf(json: TokenizerJson): string {
  const { type, vocab, merges } = json.model;
  if (type) return type;
  if (Array.isArray(vocab)) return 'Unigram';
  return merges ? 'BPE' : 'WordPiece';
}

/** The library's tokenizer with the parts that we do ourselves taken out. */
function openLibrary(json: TokenizerJson, isBpe: boolean, byteLevel: boolean): LibraryTokenizer {
  const model = isBpe ? { type: 'BPE', vocab: {}, merges: [] } : { ...json.model, type: modelTypeOf(json) };
  const parts = {
    normalizer: checkedNormalizer(json.normalizer ?? null),
    pre_tokenizer: translatedPreTokenizer(unfoldByteLevel(json.pre_tokenizer, !byteLevel)),
    post_processor: json.post_processor ?? null,
    decoder: null,
    added_tokens: [],
    model,
  };
  try {
    return new Library(parts, {}) as LibraryTokenizer;
  } catch (cause) {
    throw new TokenizerError('TOKENIZER_UNSUPPORTED', `tokenizer.json: ${messageOf(cause)}`, { cause });
  }
}

/**
 * ByteLevel's prefix space and regex as a Replace and a Split (the library's own regex takes other characters for white space than
 * `tokenizers` does); its mapping of bytes stays only if {@link BpeModel} does not do it.
 */
function unfoldByteLevel(preTokenizer: Component | null | undefined, mapsBytes: boolean): Component | null {
  const pretokenizers = flatten(preTokenizer).flatMap((part): Component[] => {
    if (part.type !== 'ByteLevel') return [part];
    const split = { type: 'Split', pattern: { Regex: gpt2Regex }, behavior: 'Isolated', invert: false };
    // '$&' is what matched: a first character that is no space gets one in front.
    const prefix = { type: 'Replace', pattern: { Regex: '(?<![\\s\\S])[^ ]' }, content: ' $&' };
    return [
      ...(part.add_prefix_space === true ? [prefix] : []),
      ...(part.use_regex === false ? [] : [split]),
      ...(mapsBytes ? [{ type: 'ByteLevel', add_prefix_space: false, use_regex: false }] : []),
    ];
  });
  return pretokenizers.length > 0 ? { type: 'Sequence', pretokenizers } : null;
}

function bpeOptions(
  json: TokenizerJson,
  vocabulary: Vocabulary,
  byteLevel: boolean,
): ConstructorParameters<typeof BpeModel>[0] {
  const model = json.model;
  for (const field of ['continuing_subword_prefix', 'end_of_word_suffix']) {
    if (model[field])
      throw new TokenizerError('TOKENIZER_UNSUPPORTED', `tokenizer.json: BPE with ${field} is not supported`);
  }
  const unknown = typeof model.unk_token === 'string' ? vocabulary.ids.get(model.unk_token) : undefined;
  return {
    ids: vocabulary.ids,
    merges: mergesOf(model.merges, vocabulary),
    byteLevel,
    byteFallback: model.byte_fallback === true,
    ignoreMerges: model.ignore_merges === true,
    unknownId: unknown,
    fuseUnknown: model.fuse_unk === true,
  };
}

/** Merges as ids, in order of rank. A merge of tokens that the vocabulary lacks can never apply and is left out. */
function mergesOf(source: unknown, vocabulary: Vocabulary): Merge[] {
  if (!Array.isArray(source) || source.length > mergesMax)
    throw new TokenizerError(
      'TOKENIZER_INVALID',
      `tokenizer.json: model.merges must be a list of at most ${mergesMax}`,
    );
  const merges: Merge[] = [];
  for (const [rank, entry] of source.entries()) {
    const [leftText, rightText] = typeof entry === 'string' ? entry.split(' ') : (entry as unknown[]);
    if (typeof leftText !== 'string' || typeof rightText !== 'string')
      throw new TokenizerError(
        'TOKENIZER_INVALID',
        `tokenizer.json: model.merges[${rank}] is not a pair of tokens`,
      );
    const left = vocabulary.ids.get(leftText);
    const right = vocabulary.ids.get(rightText);
    const result = vocabulary.ids.get(leftText + rightText);
    if (left !== undefined && right !== undefined && result !== undefined)
      merges.push({ left, right, rank, result });
  }
  return merges;
}

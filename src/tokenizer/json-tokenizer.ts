import { messageOf, NereidError } from '../base/errors.ts';
import { promptBytesMax } from '../base/limits.ts';
import type { AddedToken } from './added-tokens.ts';
import { TokenizerError } from './errors.ts';
import { ByteDecoder } from './incremental-decoder.ts';
import { hasKnownRules, unitsPerTokenMax } from './known-rules.ts';
import { Pipeline } from './pipeline.ts';
import { stopTokenIdsOf } from './stop-tokens.ts';
import { decodeRuleOf } from './token-bytes.ts';
import {
  contentOf,
  parseGenerationConfig,
  parseTokenizerConfig,
  parseTokenizerJson,
  type TokenizerConfig,
  type TokenizerJson,
} from './tokenizer-json.ts';
import type { DecodeOptions, EncodeOptions, IncrementalDecoder, Tokenizer } from './types.ts';
import { wellFormed } from './utf8.ts';
import { Vocabulary } from './vocabulary.ts';

/** The texts of a tokenizer folder's files, by file name. Only `tokenizer.json` is required. */
export interface TokenizerFiles {
  'tokenizer.json': string;
  'tokenizer_config.json'?: string;
  'special_tokens_map.json'?: string;
  'generation_config.json'?: string;
  'chat_template.jinja'?: string;
}

/** Classes of `transformers` that rebuild the post-processor from add_bos_token and add_eos_token when they load. */
const classesThatAddBos = /^(Llama|CodeLlama|Gemma|Cohere)/;

/** A {@link Tokenizer} over the texts of a tokenizer folder. */
export class JsonTokenizer implements Tokenizer {
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  readonly stopTokenIds: readonly number[];
  readonly chatTemplate: string | undefined;
  /** The files it was made from: another thread can make the same one of them. */
  readonly files: TokenizerFiles;
  /** Whether all its regexes are known to end soon; see known-rules.ts. */
  readonly hasKnownRules: boolean;
  readonly unitsPerTokenMax: number | undefined;
  readonly #vocabulary: Vocabulary;
  readonly #pipeline: Pipeline;
  readonly #stripsFirstSpace: boolean;
  readonly #before: Int32Array;
  readonly #after: Int32Array;

  /** @throws TokenizerError TOKENIZER_INVALID, TOKENIZER_UNSUPPORTED */
  constructor(files: TokenizerFiles) {
    this.files = files;
    const json = parseTokenizerJson(files['tokenizer.json']);
    const config = parseTokenizerConfig(files['tokenizer_config.json'] ?? '{}');
    const specialMap = parseTokenizerConfig(files['special_tokens_map.json'] ?? '{}');
    const generation = parseGenerationConfig(files['generation_config.json'] ?? '{}');
    const added = addedTokensOf(json);
    const rule = damaged(() => decodeRuleOf(json.decoder));
    this.#stripsFirstSpace = rule.stripsFirstSpace;
    this.#vocabulary = damaged(() => new Vocabulary(vocabularyOf(json), added, rule));
    this.#pipeline = damaged(() => new Pipeline(json, this.#vocabulary, added));
    this.hasKnownRules = hasKnownRules(json);
    this.unitsPerTokenMax = unitsPerTokenMax(json, this.#vocabulary.tokenLengthMax);
    const idOf = (token: string | undefined) => (token === undefined ? undefined : this.tokenId(token));
    const generationEos = [generation.eos_token_id ?? []].flat();
    this.bosTokenId =
      idOf(contentOf(config.bos_token) ?? contentOf(specialMap.bos_token)) ??
      generation.bos_token_id ??
      undefined;
    this.eosTokenId =
      idOf(contentOf(config.eos_token) ?? contentOf(specialMap.eos_token)) ?? generationEos[0];
    this.stopTokenIds = stopTokenIdsOf(added, [this.eosTokenId, ...generationEos]);
    this.chatTemplate = files['chat_template.jinja'] ?? defaultTemplate(config);
    const { before, after } = this.#affixes(config);
    this.#before = Int32Array.from(before);
    this.#after = Int32Array.from(after);
  }

  get vocabularySize(): number {
    return this.#vocabulary.size;
  }

  #affixes(config: TokenizerConfig): { before: number[]; after: number[] } {
    const affixes = damaged(() => this.#pipeline.affixes());
    if (!classesThatAddBos.test(config.tokenizer_class ?? '')) return affixes;
    const forced = (wanted: boolean | null | undefined, id: number | undefined, otherwise: number[]) => {
      if (typeof wanted !== 'boolean') return otherwise;
      return wanted && id !== undefined ? [id] : [];
    };
    return {
      before: forced(config.add_bos_token, this.bosTokenId, affixes.before),
      after: forced(config.add_eos_token, this.eosTokenId, affixes.after),
    };
  }

  encode(text: string, options: EncodeOptions = {}): Int32Array {
    // UTF-8 takes at most three bytes a UTF-16 unit; count them only when it could matter.
    if (text.length * 3 > promptBytesMax && Buffer.byteLength(text) > promptBytesMax)
      throw new TokenizerError(
        'TEXT_TOO_LONG',
        `the text is over ${promptBytesMax} bytes; shorten or split it`,
      );
    const ids = this.#ids(wellFormed(text), options.parseSpecialTokens ?? true);
    if (options.addSpecialTokens === false || this.#before.length + this.#after.length === 0) return ids;
    const all = new Int32Array(this.#before.length + ids.length + this.#after.length);
    all.set(this.#before);
    all.set(ids, this.#before.length);
    all.set(this.#after, this.#before.length + ids.length);
    return all;
  }

  #ids(text: string, parseSpecialTokens: boolean): Int32Array {
    try {
      return this.#pipeline.encode(text, parseSpecialTokens);
    } catch (cause) {
      // What V8's regexes say of a word of some millions of characters.
      if (!(cause instanceof RangeError)) throw cause;
      const problem = 'the text has a run of characters without a break that is too long to cut into words';
      throw new TokenizerError('TEXT_TOO_LONG', `${problem}; break it up`, { cause });
    }
  }

  decode(ids: Iterable<number>, options?: DecodeOptions): string {
    const decoder = this.incrementalDecoder(options);
    const pieces: string[] = [];
    for (const id of ids) pieces.push(decoder.push(id));
    pieces.push(decoder.flush());
    return pieces.join('');
  }

  incrementalDecoder(options: DecodeOptions = {}): IncrementalDecoder {
    return new ByteDecoder(this.#vocabulary, {
      skipSpecialTokens: options.skipSpecialTokens ?? true,
      stripFirstSpace: this.#stripsFirstSpace && options.continuation !== true,
    });
  }

  tokenBytes(id: number): Uint8Array {
    return this.#vocabulary.tokenBytes(id);
  }

  isSpecial(id: number): boolean {
    return this.#vocabulary.isSpecial(id);
  }

  tokenId(token: string): number | undefined {
    return this.#vocabulary.ids.get(token);
  }

  token(id: number): string | undefined {
    return this.#vocabulary.token(id);
  }
}

/** Whatever a damaged file makes our parts or the library's throw becomes one error that says what to do. */
function damaged<T>(make: () => T): T {
  try {
    return make();
  } catch (cause) {
    if (cause instanceof NereidError) throw cause;
    throw new TokenizerError(
      'TOKENIZER_INVALID',
      `tokenizer.json is damaged: ${messageOf(cause)}; fetch it again`,
      { cause },
    );
  }
}

function addedTokensOf(json: TokenizerJson): AddedToken[] {
  return json.added_tokens.map((token) => ({
    id: token.id,
    content: token.content,
    special: token.special,
    normalized: token.normalized ?? !token.special,
    lstrip: token.lstrip,
    rstrip: token.rstrip,
    singleWord: token.single_word,
  }));
}

/** The model's tokens: an object of ids (BPE, WordPiece) or a list of [token, score] (Unigram). */
function vocabularyOf(json: TokenizerJson): Record<string, number> {
  const { vocab } = json.model;
  if (Array.isArray(vocab))
    return Object.fromEntries(vocab.map((entry, id) => [String((entry as unknown[])[0]), id]));
  if (typeof vocab === 'object' && vocab !== null) return vocab as Record<string, number>;
  throw new TokenizerError(
    'TOKENIZER_INVALID',
    'tokenizer.json: model.vocab is missing; fetch the file again',
  );
}

/** `chat_template` may be one template or a list of named ones, of which `default` is for chats. */
function defaultTemplate(config: TokenizerConfig): string | undefined {
  const { chat_template: template } = config;
  if (typeof template === 'string') return template;
  return template?.find(({ name }) => name === 'default')?.template ?? undefined;
}

import type { GgufMetadata } from '../checkpoint/gguf-values.ts';
import { TokenizerError } from './errors.ts';
import { type GgufVocabulary, ggufVocabularyOf, tokenTypes } from './gguf-vocabulary.ts';
import { JsonTokenizer, type TokenizerFiles } from './json-tokenizer.ts';
import { type PreTokenizer, preTokenizerNamed, preTokenizerNames } from './pre-tokenizers.ts';
import { mergesFromScores } from './sentencepiece-merges.ts';
import { endOfTurnNames } from './stop-tokens.ts';
import type { Component } from './tokenizer-json.ts';

/** The part of a tokenizer.json that depends on the model's kind. */
interface Body {
  model: Record<string, unknown>;
  normalizer: Component | null;
  pre_tokenizer: Component | null;
  decoder: Component;
  addBos: boolean;
  addEos: boolean;
}

const metaspace = '\u2581';
const sequence = (field: string, parts: Component[]): Component => ({ type: 'Sequence', [field]: parts });

/** The vocabulary's body by its kind; each throws TokenizerError for what it cannot express. */
const bodies: Record<string, (vocabulary: GgufVocabulary) => Body> = {
  gpt2: byteLevelBody,
  llama: sentencePieceBody,
  bert: wordPieceBody,
};

function byteLevelBody(vocabulary: GgufVocabulary): Body {
  const name = vocabulary.pre ?? 'default';
  const pre = preTokenizerNamed(name);
  if (!pre) {
    const known = preTokenizerNames().join(', ');
    throw new TokenizerError(
      'TOKENIZER_UNSUPPORTED',
      `the GGUF's pre-tokenizer '${name}' is not supported; known: ${known}. Use the model's Hugging Face folder instead`,
    );
  }
  if (!vocabulary.merges)
    throw new TokenizerError('TOKENIZER_INVALID', 'the GGUF has no tokenizer.ggml.merges; convert it again');
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false };
  return {
    model: {
      type: 'BPE',
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: pre.ignoreMerges ?? false,
      vocab: vocabularyObject(vocabulary.tokens),
      merges: vocabulary.merges.map(pairOf),
    },
    normalizer: null,
    pre_tokenizer: sequence('pretokenizers', [...splitsOf(pre), byteLevel]),
    decoder: byteLevel,
    addBos: vocabulary.addBos ?? pre.addsBos ?? false,
    addEos: vocabulary.addEos ?? false,
  };
}

function splitsOf(pre: PreTokenizer): Component[] {
  return pre.regexes.map((Regex) => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  }));
}

/** A merge's two tokens; the first may itself begin with a space. */
function pairOf(merge: string): [string, string] {
  const at = merge.indexOf(' ', 1);
  return [merge.slice(0, at), merge.slice(at + 1)];
}

function sentencePieceBody(vocabulary: GgufVocabulary): Body {
  if (!vocabulary.scores)
    throw new TokenizerError('TOKENIZER_INVALID', 'the GGUF has no tokenizer.ggml.scores; convert it again');
  const prefix = vocabulary.addSpacePrefix ?? true;
  const toMeta = { type: 'Replace', pattern: { String: ' ' }, content: metaspace };
  const toSpace = { type: 'Replace', pattern: { String: metaspace }, content: ' ' };
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  return {
    model: {
      type: 'BPE',
      unk_token: vocabulary.tokens[vocabulary.unknownTokenId ?? 0] ?? null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: vocabularyObject(vocabulary.tokens),
      merges: mergesFromScores(vocabulary),
    },
    normalizer: sequence('normalizers', [
      ...(prefix ? [{ type: 'Prepend', prepend: metaspace }] : []),
      toMeta,
    ]),
    pre_tokenizer: null,
    decoder: sequence('decoders', [
      toSpace,
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      ...(prefix ? [strip] : []),
    ]),
    addBos: vocabulary.addBos ?? true,
    addEos: vocabulary.addEos ?? false,
  };
}

function wordPieceBody(vocabulary: GgufVocabulary): Body {
  // GGUF marks a word's start with the metaspace; BERT's own files mark its continuation with ##.
  const tokens = vocabulary.tokens.map((token, id) => {
    if ((vocabulary.tokenTypes?.[id] ?? tokenTypes.normal) !== tokenTypes.normal || /^\[.*\]$/.test(token))
      return token;
    return token.startsWith(metaspace) ? token.slice(1) : `##${token}`;
  });
  return {
    model: {
      type: 'WordPiece',
      unk_token: vocabulary.tokens[vocabulary.unknownTokenId ?? 100] ?? '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: vocabularyObject(tokens),
    },
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: true,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
    addBos: vocabulary.addBos ?? true,
    addEos: vocabulary.addEos ?? true,
  };
}

function vocabularyObject(tokens: readonly string[]): Record<string, number> {
  return Object.fromEntries(tokens.map((token, id) => [token, id]));
}

const specialTypes: ReadonlySet<number> = new Set([tokenTypes.control, tokenTypes.unknown]);

function addedTokens(vocabulary: GgufVocabulary): Record<string, unknown>[] {
  const added: Record<string, unknown>[] = [];
  for (const [id, content] of vocabulary.tokens.entries()) {
    const type = vocabulary.tokenTypes?.[id] ?? tokenTypes.normal;
    const special = specialTypes.has(type) || endOfTurnNames.has(content);
    if (content === '' || (!special && type !== tokenTypes.userDefined)) continue;
    const swallows =
      vocabulary.specialsSwallowSpace === true && type === tokenTypes.control && id !== vocabulary.bosTokenId;
    added.push({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: swallows && content !== '<unk>' && content !== '<|endoftext|>',
      normalized: false,
      special,
    });
  }
  return added;
}

/** A template that puts BOS (BERT's CLS) before and EOS (SEP) after a text. */
function postProcessor(
  before: string | undefined,
  after: string | undefined,
  ids: (token: string) => number,
): Component | null {
  const around = [before, after].filter((token) => token !== undefined);
  if (around.length === 0) return null;
  const special = (token: string | undefined) =>
    token === undefined ? [] : [{ SpecialToken: { id: token, type_id: 0 } }];
  const text = (id: 'A' | 'B') => ({ Sequence: { id, type_id: 0 } });
  return {
    type: 'TemplateProcessing',
    single: [...special(before), text('A'), ...special(after)],
    pair: [...special(before), text('A'), ...special(after), text('B'), ...special(after)],
    special_tokens: Object.fromEntries(
      around.map((token) => [token, { id: token, ids: [ids(token)], tokens: [token] }]),
    ),
  };
}

/**
 * The files of a tokenizer folder for a GGUF's vocabulary: opening the folder gives the ids that the GGUF means (llama.cpp's).
 * @throws TokenizerError TOKENIZER_UNSUPPORTED for a model or pre-tokenizer unknown here, TOKENIZER_INVALID for missing parts
 */
export function tokenizerFilesFromGguf(vocabulary: GgufVocabulary): TokenizerFiles {
  const makeBody = bodies[vocabulary.model];
  if (!makeBody) {
    const known = Object.keys(bodies).join(', ');
    throw new TokenizerError(
      'TOKENIZER_UNSUPPORTED',
      `the GGUF's tokenizer model '${vocabulary.model}' is not supported; known: ${known}. Use the model's Hugging Face folder instead`,
    );
  }
  const body = makeBody(vocabulary);
  const isSentencePiece = vocabulary.model === 'llama';
  const token = (id: number | undefined) => (id === undefined ? undefined : vocabulary.tokens[id]);
  const bosId = vocabulary.clsTokenId ?? vocabulary.bosTokenId ?? (isSentencePiece ? 1 : undefined);
  const eosId = vocabulary.separatorTokenId ?? vocabulary.eosTokenId ?? (isSentencePiece ? 2 : undefined);
  const ends = [eosId, vocabulary.eotTokenId, vocabulary.eomTokenId].filter((id) => id !== undefined);
  const tokenizerJson = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    normalizer: body.normalizer,
    pre_tokenizer: body.pre_tokenizer,
    post_processor: postProcessor(
      body.addBos ? token(bosId) : undefined,
      body.addEos ? token(eosId) : undefined,
      (text) => vocabulary.tokens.indexOf(text),
    ),
    decoder: body.decoder,
    model: body.model,
  };
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: token(bosId) ?? null,
    eos_token: token(eosId) ?? null,
    pad_token: token(vocabulary.paddingTokenId) ?? null,
    clean_up_tokenization_spaces: false,
    ...(vocabulary.chatTemplate === undefined ? {} : { chat_template: vocabulary.chatTemplate }),
  };
  return {
    'tokenizer.json': JSON.stringify(tokenizerJson),
    'tokenizer_config.json': `${JSON.stringify(config, null, 2)}\n`,
    'generation_config.json': `${JSON.stringify({ bos_token_id: bosId ?? null, eos_token_id: ends }, null, 2)}\n`,
  };
}

/**
 * The tokenizer inside a GGUF file.
 * @throws TokenizerError, CheckpointError
 */
export function openGgufTokenizer(gguf: GgufMetadata): JsonTokenizer {
  return new JsonTokenizer(tokenizerFilesFromGguf(ggufVocabularyOf(gguf)));
}

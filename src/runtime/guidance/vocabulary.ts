import { byteLevelText } from '../../tokenizer/byte-alphabet.ts';
import { openTokenizer } from '../../tokenizer/open.ts';
import type { Tokenizer } from '../../tokenizer/types.ts';

/** Where a guidance worker finds the model's vocabulary: it reads a tokenizer's folder itself, or is given the tokens. */
export type VocabularySource = { folder: string } | GuidanceVocabulary;

/** A vocabulary as grammars see it. */
export interface GuidanceVocabulary {
  /** By id: the token's bytes in the byte-level alphabet of GPT-2; '' where there is no token. */
  tokens: readonly string[];
  /** By special token's id: its name. They stand for no text unless a guide names them. */
  special: ReadonlyMap<number, string>;
  /** What ends a text. */
  stopTokenIds: readonly number[];
}

/** @throws TokenizerError where the folder holds no tokenizer */
export async function loadVocabulary(source: VocabularySource): Promise<GuidanceVocabulary> {
  return 'folder' in source ? vocabularyOf(await openTokenizer(source.folder)) : source;
}

const noBytes = new Uint8Array(0);

/** Bytes that UTF-8 never has: a token with one spoils what it is in. */
function isInNoText(byte: number): boolean {
  return byte === 0xc0 || byte === 0xc1 || byte > 0xf4;
}

/** A tokenizer's vocabulary as grammars see it. */
export function vocabularyOf(tokenizer: Tokenizer): GuidanceVocabulary {
  const tokens: string[] = [];
  const special = new Map<number, string>();
  for (let id = 0; id < tokenizer.vocabularySize; id++) {
    const name = tokenizer.token(id);
    if (name !== undefined && tokenizer.isSpecial(id)) special.set(id, name);
    const isText = name !== undefined && !special.has(id);
    const bytes = isText ? tokenizer.tokenBytes(id) : noBytes;
    tokens.push(bytes.some(isInNoText) ? '' : byteLevelText(bytes));
  }
  return { tokens, special, stopTokenIds: tokenizer.stopTokenIds };
}

/**
 * The texts by id, with some special tokens standing for their names. A stop token never stands for text: it is what ends it.
 */
export function textsOf(vocabulary: GuidanceVocabulary, specialTokens: readonly string[]): string[] {
  const texts = [...vocabulary.tokens];
  const stops = new Set(vocabulary.stopTokenIds);
  for (const id of stops) texts[id] = '';
  for (const [id, name] of vocabulary.special) {
    if (specialTokens.includes(name) && !stops.has(id)) {
      texts[id] = byteLevelText(new TextEncoder().encode(name));
    }
  }
  return texts;
}

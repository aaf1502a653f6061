import type { SeededRandom } from '../../base/random.ts';
import type { Tokenizer } from '../../tokenizer/types.ts';

/** A prompt of a wanted length. */
export interface MadePrompt {
  text?: string;
  tokens?: Int32Array;
  inputTokens: number;
}

/** Short words that are one token each, with their space, in the usual vocabularies; good enough where there is no tokenizer. */
const commonWords =
  'time year people way day man thing woman life child world school state family student group country problem hand part place case week company system program question work number night point home water room mother area money story fact month lot right study book eye job word business issue side kind head house service friend father power hour game line end member law car city name team minute idea body back parent face level office door health person art war history party result change morning reason research girl guy moment air teacher force education'.split(
    ' ',
  );

/** Ids that are not drawn at random: low ids are special tokens or bytes in many vocabularies. */
const idsSkipped = 1000;

/** Makes text or ids of wanted lengths. */
export class PromptMaker {
  readonly #tokenizer: Tokenizer | undefined;
  readonly #sendsTokens: boolean;
  readonly #vocabularySize: number;
  readonly #words: readonly string[];

  constructor(options: { tokenizer?: Tokenizer; sendsTokens: boolean; vocabularySize: number }) {
    this.#tokenizer = options.tokenizer;
    this.#sendsTokens = options.sendsTokens;
    this.#vocabularySize = options.tokenizer?.vocabularySize ?? options.vocabularySize;
    this.#words = oneTokenWords(options.tokenizer);
  }

  /** A prompt of about `length` tokens (exactly, with ids), after `prefix`. */
  make(random: SeededRandom, length: number, prefix: MadePrompt | undefined): MadePrompt {
    return this.#sendsTokens ? this.#ids(random, length, prefix) : this.#text(random, length, prefix);
  }

  /** A prompt of given text. */
  fromText(text: string): MadePrompt {
    if (!this.#tokenizer) return { text, inputTokens: Math.max(1, Math.round(text.length / 4)) };
    const tokens = this.#tokenizer.encode(text);
    return this.#sendsTokens
      ? { text, tokens, inputTokens: tokens.length }
      : { text, inputTokens: tokens.length };
  }

  #ids(random: SeededRandom, length: number, prefix: MadePrompt | undefined): MadePrompt {
    const before = prefix?.tokens ?? new Int32Array();
    const tokens = new Int32Array(before.length + length);
    tokens.set(before);
    const lowest = Math.min(idsSkipped, this.#vocabularySize - 1);
    for (let i = before.length; i < tokens.length; i++)
      tokens[i] = lowest + random.integer(this.#vocabularySize - lowest);
    return { tokens, inputTokens: tokens.length };
  }

  #text(random: SeededRandom, length: number, prefix: MadePrompt | undefined): MadePrompt {
    const words: string[] = [];
    for (let i = 0; i < length; i++) words.push(this.#words[random.integer(this.#words.length)] as string);
    const own = words.join(' ');
    const text = prefix?.text ? `${prefix.text} ${own}` : own;
    const inputTokens = this.#tokenizer
      ? this.#tokenizer.encode(text).length
      : length + (prefix?.inputTokens ?? 0);
    return { text, inputTokens };
  }
}

/** The common words that are one token in this vocabulary; all of them where hardly any is (byte-level or tiny vocabularies). */
function oneTokenWords(tokenizer: Tokenizer | undefined): readonly string[] {
  if (!tokenizer) return commonWords;
  const single = commonWords.filter(
    (word) => tokenizer.encode(` ${word}`, { addSpecialTokens: false }).length === 1,
  );
  return single.length >= 16 ? single : commonWords;
}

import type { TokenLogprobs } from '../../runtime/requests/events.ts';
import type { IncrementalDecoder, Tokenizer } from '../../tokenizer/types.ts';

/** OpenAI's chat log-probability of one token. */
export interface ChatTokenLogprob {
  token: string;
  logprob: number;
  bytes: number[];
}

/** Minus infinity is not JSON; OpenAI sends this for "as good as impossible". */
const logprobMin = -9999;

function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : logprobMin;
}

function chatToken(tokenizer: Tokenizer, id: number, logprob: number): ChatTokenLogprob {
  const bytes = tokenizer.tokenBytes(id);
  return { token: Buffer.from(bytes).toString('utf8'), logprob: finite(logprob), bytes: [...bytes] };
}

/** The top ones come as 32-bit floats: where the chosen token is among them, both places say the same number. */
function chosenLogprob(id: number, entry: TokenLogprobs | undefined): number {
  if (!entry) return logprobMin;
  const place = entry.top.tokens.indexOf(id);
  return place < 0 ? entry.logprob : (entry.top.logprobs[place] as number);
}

/** The `logprobs.content` entries of some tokens. */
export function chatLogprobs(
  tokenizer: Tokenizer,
  tokens: readonly number[],
  logprobs: readonly TokenLogprobs[],
  topCount: number,
): (ChatTokenLogprob & { top_logprobs: ChatTokenLogprob[] })[] {
  return tokens.map((id, index) => {
    const entry = logprobs[index];
    const top: ChatTokenLogprob[] = [];
    const count = Math.min(topCount, entry?.top.tokens.length ?? 0);
    for (let i = 0; i < count; i++) {
      top.push(chatToken(tokenizer, entry?.top.tokens[i] ?? 0, entry?.top.logprobs[i] ?? logprobMin));
    }
    return { ...chatToken(tokenizer, id, chosenLogprob(id, entry)), top_logprobs: top };
  });
}

/** vLLM's entry of one prompt token, by token id. */
export type PromptTokenLogprobs = Record<
  string,
  { logprob: number; rank: number | null; decoded_token: string }
>;

/** The prompt's own token and the likeliest ones at its place; null for the first token. Its rank is known where it is among those. */
export function promptTokenLogprobs(
  tokenizer: Tokenizer,
  id: number,
  entry: TokenLogprobs | undefined,
  topCount: number,
): PromptTokenLogprobs | null {
  if (!entry) return null;
  const text = (token: number) => Buffer.from(tokenizer.tokenBytes(token)).toString('utf8');
  const found: PromptTokenLogprobs = {};
  const place = entry.top.tokens.indexOf(id);
  const rank = place < 0 ? null : place + 1;
  found[id] = { logprob: finite(chosenLogprob(id, entry)), rank, decoded_token: text(id) };
  for (let i = 0; i < Math.min(topCount, entry.top.tokens.length); i++) {
    const token = entry.top.tokens[i] as number;
    const logprob = finite(entry.top.logprobs[i] as number);
    found[token] = { logprob, rank: i + 1, decoded_token: text(token) };
  }
  return found;
}

/** OpenAI's legacy completions format: parallel lists. */
export interface CompletionLogprobs {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  text_offset: number[];
}

function codePointCount(text: string): number {
  let count = text.length;
  // The second half of a surrogate pair is no code point of its own.
  for (let i = 1; i < text.length; i++) if (isPair(text, i)) count--;
  return count;
}

function isPair(text: string, second: number): boolean {
  const [high, low] = [text.charCodeAt(second - 1), text.charCodeAt(second)];
  return high >= 0xd800 && high <= 0xdbff && low >= 0xdc00 && low <= 0xdfff;
}

/** Adds some tokens to the lists; offsets count code points of the choice's whole text, as Python's strings and vLLM do. */
export class CompletionLogprobsBuilder {
  readonly #tokenizer: Tokenizer;
  readonly #topCount: number;
  readonly #decoder: IncrementalDecoder;
  #offset = 0;

  /** @param skipSpecialTokens whether the generated text leaves special tokens out, as the request has it */
  constructor(tokenizer: Tokenizer, topCount: number, skipSpecialTokens: boolean) {
    this.#tokenizer = tokenizer;
    this.#topCount = topCount;
    this.#decoder = tokenizer.incrementalDecoder({ skipSpecialTokens, continuation: true });
  }

  /** Generated tokens, which go on with the text so far. */
  build(tokens: ArrayLike<number>, logprobs: readonly (TokenLogprobs | undefined)[]): CompletionLogprobs {
    return this.#lists(tokens, logprobs, (id) => codePointCount(this.#decoder.push(id)));
  }

  /**
   * The prompt's tokens, before any other, and the text that stands for them. A special token has the length of its name where the
   * text carries it; one that was added to the text (a BOS) or left out of it has none.
   */
  buildEchoed(
    tokens: ArrayLike<number>,
    logprobs: readonly (TokenLogprobs | undefined)[],
    text: string,
  ): CompletionLogprobs {
    const decoder = this.#tokenizer.incrementalDecoder({ skipSpecialTokens: false });
    const length = codePointCount(text);
    // UTF-16 units of the text in front of the token: what `startsWith` counts.
    let units = 0;
    const lists = this.#lists(tokens, logprobs, (id, next) => {
      if (this.#tokenizer.isSpecial(id) && !this.#carries(text, units, id, next)) return 0;
      const piece = decoder.push(id);
      units += piece.length;
      // A text that the vocabulary normalizes may be shorter than what its tokens decode to.
      return Math.min(codePointCount(piece), length - this.#offset);
    });
    this.#offset = length;
    return lists;
  }

  /** Whether the text goes on with this special token; of a BOS that was added to a text with one, the second does. */
  #carries(text: string, from: number, id: number, next: number | undefined): boolean {
    const name = Buffer.from(this.#tokenizer.tokenBytes(id)).toString('utf8');
    return text.startsWith(next === id ? name + name : name, from);
  }

  #lists(
    tokens: ArrayLike<number>,
    logprobs: readonly (TokenLogprobs | undefined)[],
    lengthOf: (id: number, next: number | undefined) => number,
  ): CompletionLogprobs {
    const lists: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
    for (let index = 0; index < tokens.length; index++) {
      const id = tokens[index] as number;
      const entry = logprobs[index];
      lists.tokens.push(this.#name(id));
      // The first token of a prompt has no probability.
      lists.token_logprobs.push(entry ? finite(chosenLogprob(id, entry)) : null);
      lists.top_logprobs.push(entry ? this.#top(id, entry) : null);
      lists.text_offset.push(this.#offset);
      // Tokens of one character share its offset.
      this.#offset += lengthOf(id, tokens[index + 1]);
    }
    return lists;
  }

  /** The chosen token is always among them, as in vLLM and in OpenAI's documentation ("up to logprobs + 1"). */
  #top(chosen: number, entry: TokenLogprobs): Record<string, number> {
    const top: Record<string, number> = {};
    const count = Math.min(this.#topCount, entry.top.tokens.length);
    for (let i = 0; i < count; i++) {
      top[this.#name(entry.top.tokens[i] as number)] = finite(entry.top.logprobs[i] as number);
    }
    top[this.#name(chosen)] = finite(chosenLogprob(chosen, entry));
    return top;
  }

  /** A token's text, or its bytes where it cuts a character: `bytes:\xe2\x96`, as OpenAI writes it. */
  #name(id: number): string {
    const bytes = this.#tokenizer.tokenBytes(id);
    const text = Buffer.from(bytes).toString('utf8');
    if (!text.includes('\ufffd')) return text;
    return `bytes:${[...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
  }
}

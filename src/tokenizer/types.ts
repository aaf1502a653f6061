/** How {@link Tokenizer.encode} treats special tokens. */
export interface EncodeOptions {
  /** Adds what the vocabulary puts around a text (a BOS, an EOS). Default true; false for text made by a chat template. */
  addSpecialTokens?: boolean;
  /**
   * Reads the text of a special token (`<|im_end|>`) as that token. Default true. With false it is encoded as ordinary text, so
   * untrusted text cannot forge a turn. Added tokens that are not special (`<think>`) are matched either way.
   */
  parseSpecialTokens?: boolean;
}

/** How ids become text. */
export interface DecodeOptions {
  /** Leaves special tokens out of the text. Default true. */
  skipSpecialTokens?: boolean;
  /**
   * The ids continue a text, so a vocabulary that drops the space before a sequence's first word (SentencePiece) keeps it.
   * Default false: the ids are a whole sequence.
   */
  continuation?: boolean;
}

/** A vocabulary: text to token ids and back. Immutable and synchronous; see `EncodePool` for long texts. */
export interface Tokenizer {
  /** Ids are `0 … vocabularySize − 1`; some may be holes that encode never returns. */
  readonly vocabularySize: number;
  readonly bosTokenId?: number;
  readonly eosTokenId?: number;
  /** Ids that end a generation: eos, end of turn (`<|eot_id|>`, `<|im_end|>`, …) and generation_config's list; ascending. */
  readonly stopTokenIds: readonly number[];
  /** The chat template's source (Jinja), where the checkpoint has one. */
  readonly chatTemplate?: string;
  /** UTF-16 units of text that one token can stand for at most; absent where that is not known. */
  readonly unitsPerTokenMax?: number;
  /** Lone surrogates become U+FFFD. */
  encode(text: string, options?: EncodeOptions): Int32Array;
  /** Invalid UTF-8 becomes U+FFFD. @throws TokenizerError TOKEN_ID_OUT_OF_RANGE */
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** A decoder for ids that arrive one by one; its pieces joined equal {@link decode}. */
  incrementalDecoder(options?: DecodeOptions): IncrementalDecoder;
  /**
   * The raw bytes that a token adds to the text when appended to a sequence (a SentencePiece token keeps its space); the bytes of
   * its name for a special token. Shared: do not write to it. @throws TokenizerError TOKEN_ID_OUT_OF_RANGE
   */
  tokenBytes(id: number): Uint8Array;
  /** Whether the id is a special (control) token. False for unknown ids. */
  isSpecial(id: number): boolean;
  /** The id of a token's exact text (`<|im_end|>`), if the vocabulary has it. */
  tokenId(token: string): number | undefined;
  /** The token as the vocabulary writes it (`Ġthe`, `▁the`), if there is one. */
  token(id: number): string | undefined;
}

/** Text from ids that arrive one by one. Holds back incomplete UTF-8. */
export interface IncrementalDecoder {
  /** The text that became certain with this id; often '' within a character of several tokens. */
  push(id: number): string;
  /** What was held back: U+FFFD if a character never completed. The decoder then starts afresh as a continuation. */
  flush(): string;
}

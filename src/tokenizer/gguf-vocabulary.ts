import type { GgufMetadata } from '../checkpoint/gguf-values.ts';

/** A token's role, by GGUF's numbers (`tokenizer.ggml.token_type`). */
export const tokenTypes = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

/** A vocabulary as GGUF metadata holds it (`tokenizer.ggml.*`), from a file or for one. */
export interface GgufVocabulary {
  /** `llama` (SentencePiece), `gpt2` (byte-level BPE), `bert` (WordPiece). */
  model: string;
  /** The pre-tokenizer's name; only BPE has them. */
  pre?: string;
  tokens: readonly string[];
  /** SentencePiece: the higher, the earlier a merge into the token. */
  scores?: ArrayLike<number>;
  tokenTypes?: ArrayLike<number>;
  /** BPE: pairs joined by a space, by rank. */
  merges?: readonly string[];
  bosTokenId?: number;
  eosTokenId?: number;
  eotTokenId?: number;
  eomTokenId?: number;
  unknownTokenId?: number;
  paddingTokenId?: number;
  separatorTokenId?: number;
  clsTokenId?: number;
  /** Whether a text gets a BOS / EOS; what the model's kind defaults to if absent. */
  addBos?: boolean;
  addEos?: boolean;
  /** SentencePiece: whether a text gets a space in front. Default true. */
  addSpacePrefix?: boolean;
  chatTemplate?: string;
  /** White space after a control token is swallowed (the Phi-3 family; its files do not say it, llama.cpp goes by the name). */
  specialsSwallowSpace?: boolean;
  /** What could not be carried over; for the user to read. */
  warnings?: readonly string[];
}

/** Reads the vocabulary of a GGUF file's metadata. @throws CheckpointError for keys that are missing or of a wrong type */
export function ggufVocabularyOf(gguf: GgufMetadata): GgufVocabulary {
  const id = (name: string) => gguf.optionalNumber(`tokenizer.ggml.${name}_token_id`);
  const name = (gguf.optionalString('general.name') ?? '').toLowerCase();
  return {
    model: gguf.string('tokenizer.ggml.model'),
    pre: gguf.optionalString('tokenizer.ggml.pre'),
    tokens: gguf.strings('tokenizer.ggml.tokens'),
    scores: gguf.optionalNumbers('tokenizer.ggml.scores'),
    tokenTypes: gguf.optionalNumbers('tokenizer.ggml.token_type'),
    merges: gguf.optionalStrings('tokenizer.ggml.merges'),
    bosTokenId: id('bos'),
    eosTokenId: id('eos'),
    eotTokenId: id('eot'),
    eomTokenId: id('eom'),
    unknownTokenId: id('unknown'),
    paddingTokenId: id('padding'),
    // The format spells it so.
    separatorTokenId: id('seperator'),
    clsTokenId: id('cls'),
    addBos: gguf.optionalBoolean('tokenizer.ggml.add_bos_token'),
    addEos: gguf.optionalBoolean('tokenizer.ggml.add_eos_token'),
    addSpacePrefix: gguf.optionalBoolean('tokenizer.ggml.add_space_prefix'),
    chatTemplate: gguf.optionalString('tokenizer.chat_template'),
    specialsSwallowSpace: name.includes('phi-3') || name.includes('phi3'),
  };
}

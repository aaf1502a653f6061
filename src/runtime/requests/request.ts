import type { Guide } from '../guidance/guide.ts';

/** What a front end asks of an engine: plain data, structured-clone safe. */

import type { Retention } from '../kv/retention.ts';
import type { BeamParameters } from '../sequences/beam-search.ts';
import type { NgramLengths } from '../speculation/ngram-lengths.ts';

/** How the next token is chosen. Names and meanings follow vLLM's `SamplingParams`. */
export interface SamplingParameters {
  /** 0 is greedy. */
  temperature: number;
  /** 0 keeps all. */
  topK: number;
  /** (0, 1]. */
  topP: number;
  /** [0, 1]: drops tokens less likely than minP times the likeliest. */
  minP: number;
  /** 1 is none; over prompt and output, as in the CTRL paper. */
  repetitionPenalty: number;
  /** Added once for a token already in the output (OpenAI). */
  presencePenalty: number;
  /** Added for each occurrence in the output (OpenAI). */
  frequencyPenalty: number;
  /** Sequence i of the request draws with (seed, i, position). Absent: the engine picks one and reports it. */
  seed?: number;
  /** Added to logits before anything else; −100 and 100 ban and force in practice (OpenAI). */
  logitBias?: readonly (readonly [token: number, bias: number])[];
  /** Added to the logits of tokens 0, 1, … (TensorRT-LLM's `embedding_bias`); −Infinity bans. */
  embeddingBias?: Float32Array;
  /** Only these may be chosen. */
  allowedTokens?: Int32Array;
  /** Words as tokens: the last token of one is banned where the output ends in the others. */
  badWords?: readonly (readonly number[])[];
  /** No run of so many tokens comes twice in prompt and output; 0 or absent: any may. */
  noRepeatNgramSize?: number;
  topPDecay?: TopPDecay;
}

/** Top-p that gets narrower with every token, as TensorRT-LLM has it. */
export interface TopPDecay {
  /** (0, 1]: what top-p is multiplied by after each token. */
  factor: number;
  /** (0, 1]: it does not fall below. */
  min: number;
  /** The token after which it is what it was at first. */
  resetToken?: number;
}

export const greedySampling: SamplingParameters = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
};

/** A LoRA adapter that an engine was given (`runtime/adapters`): what computes the same has the same digest. */
export interface AdapterReference {
  /** As it was loaded under, for people. */
  name: string;
  digest: string;
}

/** One generation request as an engine takes it. Text never crosses: tokens in, tokens out. */
export interface GenerationRequest {
  /** Unique over all front ends of an engine (`transport/request-ids.ts`): a safe integer. */
  id: number;
  promptTokens: Int32Array;
  sampling: SamplingParameters;
  /** Tokens to make at most, per sequence; 0 where {@link returns} asks for something of the prompt. */
  maxTokens: number;
  /** Stop ids are banned until so many tokens are made. */
  minTokens: number;
  /** Ids that end a sequence (the id itself is reported, in no text). */
  stopTokenIds: readonly number[];
  /** Parallel sequences over one prompt. */
  sequences: number;
  /** Top log-probabilities to report with each token (0: only the chosen one's); absent: none. */
  logprobs?: number;
  /** Log-probabilities of the prompt's tokens too (OpenAI completions' `echo` + `logprobs`). */
  promptLogprobs?: number;
  /** What its texts must look like. */
  guide?: Guide;
  /** Requests with different salts share no prefix. */
  cacheSalt?: string;
  /** Absent: the model as it is. */
  adapter?: AdapterReference;
  /** How long its KV should be kept when it has ended, and how dear it is. */
  retention?: Retention;
  /** Higher first; equal ones in order of arrival. */
  priority: number;
  /** Beam search instead of one draw or argmax after the other: the best `sequences` of its texts are the answer. */
  beams?: BeamParameters;
  /** What the answer may be like, as tokens: where the answer repeats it, it is verified instead of made one by one (OpenAI's `prediction`). */
  prediction?: Int32Array;
  /** How its tokens are guessed ahead, where it says so itself. */
  speculation?: RequestSpeculation;
  /** What comes next, as somebody else guesses: verified in the step that computes the prompt's end. */
  draft?: DraftTokens;
  /** What it wants to see of the model beside tokens. */
  returns?: RequestReturns;
}

/** What a request wants to see beside its tokens. It costs the steps that hold its rows, and nobody else. */
export interface RequestReturns {
  /** The prompt as one vector: the final hidden state of its last token, or the mean of all. Nothing is generated: `maxTokens` is 0. */
  pooling?: Pooling;
  /** The final hidden state, behind the last norm, of every prompt token. `maxTokens` is 0. */
  contextHidden?: boolean;
  /** The model's logits behind every prompt token. With it alone, `maxTokens` may be 0. */
  contextLogits?: boolean;
  /** The model's logits, before any penalty or temperature, that each token was chosen from. */
  generationLogits?: boolean;
}

/** How a prompt's hidden states become one vector. */
export type Pooling = 'last' | 'mean';

/** A request's own word on guessing ahead: the engine's drafter is used as far as it says nothing else. */
export interface RequestSpeculation {
  /** Drafts at once, at most; 0 for none. Absent: the engine's. */
  draftsMax?: number;
  /** Guesses from what the text repeats, with n-grams of these lengths. */
  lookup?: NgramLengths;
}

/** Draft tokens from outside. */
export interface DraftTokens {
  tokens: Int32Array;
  /**
   * [tokens, vocabulary] of the model that drew them, with this request's sampling: they are verified by the rejection rule then, which accepts more of what was drawn
   * elsewhere than equality does.
   */
  logits?: Float32Array;
  /** As in `speculation/rejection.ts`; only with `logits`. */
  threshold?: number;
}

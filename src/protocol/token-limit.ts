import { ProtocolError } from './errors.ts';
import type { ServedModel } from './served-model.ts';

/** How many tokens a request asks for, and where it says so. */
export interface TokenLimits {
  /** The request's own, if it has one. */
  requested: number | undefined;
  /** Which field said so. */
  parameter: string;
  /** Which field holds the prompt. */
  promptParameter: string;
  /** A protocol's default; absent: the checkpoint's, else what the context leaves. */
  fallback?: number;
}

/**
 * Tokens a sequence may make.
 * @throws ProtocolError CONTEXT_LENGTH_EXCEEDED
 */
export function maxTokensOf(limits: TokenLimits, promptLength: number, model: ServedModel): number {
  const { contextLength } = model.client.description;
  const room = contextLength - promptLength;
  const { requested, parameter, promptParameter } = limits;
  if (room < 1) {
    const problem = `your ${promptParameter} resulted in ${promptLength} tokens, and the answer needs room too`;
    throw contextExceeded(contextLength, problem, `shorten the ${promptParameter}`, promptParameter);
  }
  if (requested !== undefined && requested > room) {
    const total = promptLength + requested;
    const problem = `you requested ${total} tokens (${promptLength} in the ${promptParameter}, ${requested} in the completion)`;
    throw contextExceeded(contextLength, problem, `ask for a ${parameter} of at most ${room}`, parameter);
  }
  return requested ?? Math.min(room, limits.fallback ?? model.defaults.maxTokens ?? room);
}

/**
 * Holds a prompt that no answer follows against the context.
 * @throws ProtocolError CONTEXT_LENGTH_EXCEEDED
 */
export function checkPromptFits(length: number, parameter: string, model: ServedModel): void {
  const { contextLength } = model.client.description;
  if (length <= contextLength) return;
  const problem = `your ${parameter} resulted in ${length} tokens`;
  throw contextExceeded(
    contextLength,
    problem,
    `shorten the ${parameter}, or send truncate_prompt_tokens`,
    parameter,
  );
}

/** Begins as OpenAI's own message does: litellm and LangChain know an overflow by that text and by the code in it. */
function contextExceeded(length: number, problem: string, advice: string, parameter: string): ProtocolError {
  const message = `This model's maximum context length is ${length} tokens. However, ${problem}; ${advice} (context_length_exceeded)`;
  return new ProtocolError('CONTEXT_LENGTH_EXCEEDED', message, { parameter });
}

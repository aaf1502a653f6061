import { type ErrorKind, NereidError } from '../base/errors.ts';

/** What can go wrong between a request's arrival at an engine and its last token, with the kind a protocol maps it by. */
const kinds = {
  REQUEST_INVALID: 'invalid',
  PROMPT_TOO_LONG: 'invalid',
  REQUEST_TOO_LARGE: 'invalid',
  OPTIONS_INVALID: 'invalid',
  QUEUE_FULL: 'exhausted',
  ENGINE_UNAVAILABLE: 'unavailable',
  SHUTTING_DOWN: 'unavailable',
  ENGINE_FAILED: 'internal',
  SOCKET_FOLDER_UNUSABLE: 'internal',
  LOGITS_INVALID: 'internal',
  GRAMMAR_INVALID: 'invalid',
  GRAMMAR_TOO_SLOW: 'invalid',
  GRAMMAR_STUCK: 'invalid',
  GUIDANCE_UNAVAILABLE: 'unavailable',
  ADAPTER_NOT_FOUND: 'not-found',
  ADAPTER_INVALID: 'invalid',
  ADAPTER_TOO_LARGE: 'invalid',
  ADAPTER_CACHE_FULL: 'exhausted',
  ADAPTERS_UNSUPPORTED: 'unsupported',
  OUTPUTS_UNSUPPORTED: 'unsupported',
  OUTPUTS_UNWRITABLE: 'unavailable',
  OUTPUTS_UNREADABLE: 'unavailable',
  RANK_LOST: 'unavailable',
  RANK_REFUSED: 'invalid',
  RANKS_INCOMPLETE: 'unavailable',
  RANK_MESSAGE_INVALID: 'internal',
} as const satisfies Record<string, ErrorKind>;

export type RuntimeErrorCode = keyof typeof kinds;

/** Every code of this layer, for docs and the tests that count them. */
export const runtimeErrorCodes = Object.keys(kinds) as RuntimeErrorCode[];

/** A request or an engine's options cannot be served. */
export class RuntimeError extends NereidError {
  constructor(code: RuntimeErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, kinds[code], message, options);
  }
}

/** An engine that serves no adapters was asked for one. */
export function adaptersUnsupported(device: string): RuntimeError {
  const problem = `this engine (device '${device}') serves no LoRA adapters`;
  const fix = 'serve it undivided, on a device that docs/lora.md names, or merge the adapter into its model';
  return new RuntimeError('ADAPTERS_UNSUPPORTED', `${problem}; ${fix}`);
}

/** Names of adapters that requests brought: their tasks' numbers. */
const taskName = /^\d+$/;

/** An adapter that a request names, or that is to be unloaded, is not there. A task's is missed in TensorRT-LLM's words, which clients look for. */
export function adapterNotLoaded(name: string): RuntimeError {
  if (taskName.test(name)) {
    const problem = `LoRA task ${name.slice(0, 20)} not found in cache`;
    return new RuntimeError('ADAPTER_NOT_FOUND', `${problem}. Please send LoRA weights with request`);
  }
  const problem = `the adapter '${name.slice(0, 200)}' is not loaded`;
  return new RuntimeError('ADAPTER_NOT_FOUND', `${problem}; load it (again)`);
}

/** An engine whose device gives no hidden states was asked for some, or for an embedding, which is made of them. */
export function hiddenUnsupported(device: string): RuntimeError {
  const problem = `this engine (device '${device}') gives no hidden states, of which embeddings are made`;
  const fix = 'serve it on ggml, not divided into stages';
  return new RuntimeError('OUTPUTS_UNSUPPORTED', `${problem}; ${fix}`);
}

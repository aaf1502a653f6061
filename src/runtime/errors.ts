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

import { type ErrorKind, NereidError } from '../base/errors.ts';

/** The codes of {@link TokenizerError}; stable, documented in docs/tokenizer.md. */
export type TokenizerErrorCode =
  | 'TOKENIZER_MISSING'
  | 'TOKENIZER_INVALID'
  | 'TOKENIZER_UNSUPPORTED'
  | 'TOKEN_ID_OUT_OF_RANGE'
  | 'TEXT_TOO_LONG'
  | 'ENCODE_QUEUE_FULL'
  | 'ENCODE_WORKER_FAILED'
  | 'ENCODE_TIMEOUT'
  | 'ENCODE_CANCELLED'
  | 'TEMPLATE_QUEUE_FULL'
  | 'TEMPLATE_WORKER_FAILED'
  | 'CHAT_TEMPLATE_MISSING'
  | 'CHAT_TEMPLATE_INVALID'
  | 'CHAT_TEMPLATE_REJECTED'
  | 'CHAT_MESSAGE_INVALID'
  | 'STOP_STRING_INVALID';

const kinds: Record<TokenizerErrorCode, ErrorKind> = {
  TOKENIZER_MISSING: 'not-found',
  TOKENIZER_INVALID: 'invalid',
  TOKENIZER_UNSUPPORTED: 'unsupported',
  TOKEN_ID_OUT_OF_RANGE: 'invalid',
  TEXT_TOO_LONG: 'invalid',
  ENCODE_QUEUE_FULL: 'exhausted',
  ENCODE_WORKER_FAILED: 'internal',
  ENCODE_TIMEOUT: 'invalid',
  ENCODE_CANCELLED: 'cancelled',
  TEMPLATE_QUEUE_FULL: 'exhausted',
  TEMPLATE_WORKER_FAILED: 'internal',
  CHAT_TEMPLATE_MISSING: 'invalid',
  CHAT_TEMPLATE_INVALID: 'invalid',
  CHAT_TEMPLATE_REJECTED: 'invalid',
  CHAT_MESSAGE_INVALID: 'invalid',
  STOP_STRING_INVALID: 'invalid',
};

/** Anything the tokenizer layer refuses: vocabulary files, text, token ids, chat templates. */
export class TokenizerError extends NereidError {
  constructor(code: TokenizerErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, kinds[code], message, options);
  }
}

import { type ErrorKind, messageOf, NereidError } from '../base/errors.ts';

/** Every code of {@link CheckpointError}, what it means to a caller, and (in `docs/checkpoint.md`) what to do about it. */
export const checkpointErrorKinds = {
  CHECKPOINT_NOT_FOUND: 'not-found',
  CHECKPOINT_UNREADABLE: 'invalid',
  CHECKPOINT_UNRECOGNIZED: 'invalid',
  CHECKPOINT_FORMAT_UNSUPPORTED: 'unsupported',
  CHECKPOINT_INCOMPLETE: 'not-found',
  CHECKPOINT_CHANGED: 'unavailable',
  CHECKPOINT_JSON_INVALID: 'invalid',
  CHECKPOINT_WRITE_INVALID: 'invalid',
  CHECKPOINT_WRITE_FAILED: 'unavailable',
  TENSOR_NOT_FOUND: 'not-found',
  TENSOR_RANGE_INVALID: 'invalid',
  TENSOR_TOO_LARGE: 'exhausted',
  TENSOR_TYPE_UNSUPPORTED: 'unsupported',
  SAFETENSORS_TRUNCATED: 'invalid',
  SAFETENSORS_HEADER_INVALID: 'invalid',
  SAFETENSORS_TENSOR_INVALID: 'invalid',
  SAFETENSORS_LAYOUT_INVALID: 'invalid',
  SAFETENSORS_LIMIT: 'exhausted',
  SAFETENSORS_INDEX_INVALID: 'invalid',
  GGUF_TRUNCATED: 'invalid',
  GGUF_VERSION_UNSUPPORTED: 'unsupported',
  GGUF_METADATA_INVALID: 'invalid',
  GGUF_TENSOR_INVALID: 'invalid',
  GGUF_LAYOUT_INVALID: 'invalid',
  GGUF_LIMIT: 'exhausted',
  GGUF_KEY_MISSING: 'invalid',
  GGUF_KEY_TYPE: 'invalid',
  GGUF_SPLIT_INVALID: 'invalid',
  LORA_CONFIG_INVALID: 'invalid',
  LORA_TENSOR_INVALID: 'invalid',
  LORA_UNSUPPORTED: 'unsupported',
} as const satisfies Record<string, ErrorKind>;

export type CheckpointErrorCode = keyof typeof checkpointErrorKinds;

/** A checkpoint that is missing, damaged, hostile or of a kind Nereid cannot read. The message names the file and the fix. */
export class CheckpointError extends NereidError {
  declare readonly code: CheckpointErrorCode;

  constructor(code: CheckpointErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, checkpointErrorKinds[code], message, options);
  }
}

/** A file-system failure on `path` as a {@link CheckpointError}. */
export function fileError(path: string, thrown: unknown): CheckpointError {
  if (thrown instanceof CheckpointError) return thrown;
  const reason = (thrown as { code?: unknown } | null)?.code;
  if (reason === 'ENOENT' || reason === 'ENOTDIR') {
    return new CheckpointError('CHECKPOINT_NOT_FOUND', `${path} does not exist; check the path`, {
      cause: thrown,
    });
  }
  const message = `cannot read ${path}: ${messageOf(thrown)}; check that it is readable and complete`;
  return new CheckpointError('CHECKPOINT_UNREADABLE', message, { cause: thrown });
}

/** A failure to write `path` as a {@link CheckpointError}. */
export function writeError(path: string, thrown: unknown): CheckpointError {
  const message = `cannot write ${path}: ${messageOf(thrown)}; check the folder, its permissions and the free space`;
  return new CheckpointError('CHECKPOINT_WRITE_FAILED', message, { cause: thrown });
}

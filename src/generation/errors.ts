import { type ErrorKind, NereidError } from '../base/errors.ts';

/** The codes of {@link GenerationError}, with the kind that a protocol maps each by. */
const rows = {
  SERVER_SHUTTING_DOWN: ['unavailable'],
  REQUEST_FAILED: ['internal'],
} as const satisfies Record<string, readonly [ErrorKind]>;

/** A generation ended otherwise than its engine or its client meant it to. */
export class GenerationError extends NereidError {
  constructor(code: keyof typeof rows, message: string, options?: { cause?: unknown }) {
    super(code, rows[code][0], message, options);
  }
}

/** An engine's error event, carried over from another process: its code and kind are the engine's. */
export class EngineReportedError extends NereidError {}

const kinds: readonly string[] = [
  'invalid',
  'not-found',
  'exhausted',
  'unavailable',
  'cancelled',
  'unsupported',
  'internal',
] satisfies ErrorKind[];

/** The error of a `finish: 'error'` event. A kind that this build does not know counts as internal. */
export function engineError(
  reported: { code: string; kind: string; message: string } | undefined,
): NereidError {
  if (!reported) {
    const message = 'the engine failed this request without saying why; see its log';
    return new GenerationError('REQUEST_FAILED', message);
  }
  const kind = kinds.includes(reported.kind) ? (reported.kind as ErrorKind) : 'internal';
  return new EngineReportedError(reported.code, kind, reported.message);
}

import { type ErrorKind, NereidError } from '../base/errors.ts';

const kinds = {
  MODEL_CONFIG_INVALID: 'invalid',
  MODEL_UNSUPPORTED: 'unsupported',
  MODEL_WEIGHT_MISSING: 'invalid',
  MODEL_WEIGHT_INVALID: 'invalid',
} as const satisfies Record<string, ErrorKind>;

export type ModelErrorCode = keyof typeof kinds;

/** A checkpoint that its architecture cannot make a network of: a wrong configuration, a missing or misshapen weight. */
export class ModelError extends NereidError {
  constructor(code: ModelErrorCode, message: string) {
    super(code, kinds[code], message);
  }
}

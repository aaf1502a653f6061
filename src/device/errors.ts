import { type ErrorKind, NereidError } from '../base/errors.ts';

/** What can go wrong on a device, with the kind a protocol maps it by. */
const kinds = {
  DEVICE_LIBRARY_MISSING: 'unsupported',
  DEVICE_LIBRARY_MISMATCH: 'unsupported',
  DEVICE_OP_UNSUPPORTED: 'unsupported',
  DEVICE_DTYPE_UNSUPPORTED: 'unsupported',
  DEVICE_WEIGHT_MISSING: 'invalid',
  DEVICE_WEIGHT_INVALID: 'invalid',
  DEVICE_OPTION_INVALID: 'invalid',
  DEVICE_ADAPTER_INVALID: 'invalid',
  DEVICE_BATCH_INVALID: 'internal',
  DEVICE_OUT_OF_MEMORY: 'exhausted',
  DEVICE_FAILED: 'internal',
} as const satisfies Record<string, ErrorKind>;

export type DeviceErrorCode = keyof typeof kinds;

/** A device cannot load or run what it was given. */
export class DeviceError extends NereidError {
  constructor(code: DeviceErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, kinds[code], message, options);
  }
}

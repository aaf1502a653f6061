import { messageOf, NereidError } from '../../base/errors.ts';
import { DeviceError } from '../../device/errors.ts';

/** Whatever fails in a group fails the whole of it: as the error after which an engine is started anew. */
export function groupFailure(thrown: unknown): DeviceError {
  if (thrown instanceof DeviceError && thrown.code === 'DEVICE_FAILED') return thrown;
  const code = thrown instanceof NereidError ? `${thrown.code}: ` : '';
  return new DeviceError('DEVICE_FAILED', `a step of several ranks failed (${code}${messageOf(thrown)})`, {
    cause: thrown,
  });
}

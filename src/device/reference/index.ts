import { totalmem } from 'node:os';
import type { Device } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { ReferenceLoadedWeights } from './model.ts';

/**
 * The living definition of the ops: float32 values, float64 sums, plain loops on one thread. Every other device is tested against it.
 * @throws DeviceError DEVICE_OPTION_INVALID: it takes no options
 */
export function openDevice(options: Readonly<Record<string, string>> = {}): Device {
  const [name] = Object.keys(options);
  if (name !== undefined) {
    throw new DeviceError(
      'DEVICE_OPTION_INVALID',
      `the reference device takes no options; '${name}' was given`,
    );
  }
  return {
    name: 'reference',
    describe: () => ({
      name: 'reference',
      hardware: 'plain float32 TypeScript on one thread',
      memoryBytes: totalmem(),
      details: { purpose: 'tests: slow, and the definition of every op' },
    }),
    load: (source, modelOptions) => new ReferenceLoadedWeights(source, modelOptions),
    close() {},
  };
}

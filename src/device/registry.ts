import { Registry } from '../base/registry.ts';
import type { Device } from './device.ts';

/** Opens a device; `seed`-like device-specific settings come as plain strings from `--device-option name=value`. */
export interface DeviceModule {
  openDevice(options: Readonly<Record<string, string>>): Device | Promise<Device>;
}

/** Devices by the names that `--device` takes. */
export const devices = new Registry<DeviceModule>('device', {
  ggml: () => import('./ggml/index.ts'),
  cuda: () => import('./cuda/index.ts'),
  reference: () => import('./reference/index.ts'),
  null: () => import('./null/index.ts'),
});

import { availableParallelism, cpus, totalmem } from 'node:os';
import type { Device, DeviceDescription, DeviceModelOptions, DeviceModelSource } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { type GgmlLibrary, loadGgml } from './library.ts';
import { GgmlLoadedWeights } from './loaded-weights.ts';
import type { GgmlModelSettings } from './model.ts';

export { GgmlModel } from './model.ts';

/** ggml's poll level by default: see docs/device-ggml.md for what was measured. */
const pollDefault = 1;
const pollMax = 100;
const optionNames = ['library', 'poll', 'repack'];

/** Runs graphs on the CPU through ggml. */
class GgmlDevice implements Device {
  readonly name = 'ggml';
  readonly #library: GgmlLibrary;
  readonly #settings: GgmlModelSettings;
  readonly #models = new Set<GgmlLoadedWeights>();

  constructor(library: GgmlLibrary, settings: GgmlModelSettings) {
    this.#library = library;
    this.#settings = settings;
  }

  describe(): DeviceDescription {
    const { ggml, version, commit, cpuLibrary, features, folder, extraBufferTypes } = this.#library;
    const variant = /ggml-cpu-([^.]+)/.exec(cpuLibrary)?.[1] ?? 'unknown';
    return {
      name: this.name,
      hardware: `${cpus()[0]?.model.trim() ?? process.arch}, ${variant} kernels`,
      memoryBytes: totalmem(),
      details: {
        ggml: `${version} (${commit})`,
        library: folder,
        variant,
        features: Object.keys(features).join(' '),
        'weight formats':
          extraBufferTypes.map((type) => ggml.ggml_backend_buft_name(type)).join(' ') || 'plain',
        threads: `${availableParallelism()}`,
        poll: `${this.#settings.poll}`,
      },
    };
  }

  load(source: DeviceModelSource, options: DeviceModelOptions): GgmlLoadedWeights {
    const model = new GgmlLoadedWeights(this.#library, source, options, this.#settings);
    this.#models.add(model);
    return model;
  }

  close(): void {
    for (const model of this.#models) model.close();
    this.#models.clear();
  }
}

/**
 * Options: `library` (folder of ggml's shared libraries), `poll` (0–100, how long compute threads spin between steps), `repack`
 * (`true` or `false`: whether weights may be stored in another order for faster kernels).
 * @throws DeviceError when ggml is not installed or not the release that Nereid knows
 */
export function openDevice(options: Readonly<Record<string, string>>): Device {
  for (const name of Object.keys(options)) {
    if (optionNames.includes(name)) continue;
    throw new DeviceError(
      'DEVICE_OPTION_INVALID',
      `the ggml device has no option '${name}'; it has ${optionNames.join(', ')}`,
    );
  }
  const poll = Number(options.poll ?? pollDefault);
  if (!Number.isInteger(poll) || poll < 0 || poll > pollMax) {
    throw new DeviceError(
      'DEVICE_OPTION_INVALID',
      `poll is '${options.poll}': give a whole number from 0 to ${pollMax}`,
    );
  }
  const repack = options.repack ?? 'true';
  if (repack !== 'true' && repack !== 'false') {
    throw new DeviceError('DEVICE_OPTION_INVALID', `repack is '${repack}': give true or false`);
  }
  return new GgmlDevice(loadGgml(options.library), { poll, repack: repack === 'true' });
}

import type { Device, DeviceDescription, DeviceModelOptions, DeviceModelSource } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { Gpu } from './gpu.ts';
import { activationOf, CudaLoadedWeights } from './model.ts';
import type { ElementType } from './views.ts';

const optionNames = ['gpu', 'library', 'activations', 'weights'];
const activationNames = ['auto', 'f32', 'f16', 'bf16'];
const mebibyte = 1024 * 1024;

/** Runs graphs on an NVIDIA GPU: kernels compiled on this machine, products by cuBLASLt, steps as CUDA graphs. */
class CudaDevice implements Device {
  readonly name = 'cuda';
  readonly #gpu: Gpu;
  readonly #activations: string;
  readonly #weights: string | undefined;

  constructor(gpu: Gpu, activations: string, weights: string | undefined) {
    this.#gpu = gpu;
    this.#activations = activations;
    this.#weights = weights;
  }

  describe(): DeviceDescription {
    const { facts, compiler, cublas, driver } = this.#gpu;
    const version = (code: number) => `${Math.floor(code / 1000)}.${Math.floor((code % 1000) / 10)}`;
    return {
      name: this.name,
      hardware: `${facts.name}, compute capability ${(facts.capability / 10).toFixed(1)}`,
      memoryBytes: facts.memoryBytes,
      details: {
        'free memory': `${Math.floor(this.#gpu.freeBytes() / mebibyte)} MiB`,
        multiprocessors: `${facts.multiprocessors}`,
        driver: `CUDA ${version(facts.driverVersion)} (${driver.path})`,
        NVRTC: `${compiler.version} (${compiler.path})`,
        headers: compiler.headers,
        cuBLASLt: `${cublas.version} (${cublas.path})`,
        activations: this.#activations,
      },
    };
  }

  load(source: DeviceModelSource, options: DeviceModelOptions): CudaLoadedWeights {
    const type = this.#activations === 'auto' ? activationOf(source) : (this.#activations as ElementType);
    return new CudaLoadedWeights(this.#gpu, this.#filled(source), options, type);
  }

  /** The source with its weights, or with random ones of the same shapes. */
  #filled(source: DeviceModelSource): DeviceModelSource {
    const path = this.#weights;
    if (path === undefined) return source;
    const weights = new Map([...source.weights].map(([name, tensor]) => [name, { ...tensor, path }]));
    return { ...source, weights };
  }

  close(): void {
    this.#gpu.close();
  }
}

/**
 * Options: `gpu` (its number, default 0), `library` (folders of NVRTC, cuBLASLt and CUDA's headers, joined by ':'), `activations` (`auto`,
 * `f32`, `f16` or `bf16`: what values between ops are stored as; `auto` takes the weights' type), `weights` (`random:SEED` makes them up on the
 * GPU, for benchmarks of a shape whose file holds none).
 * @throws DeviceError naming what is missing and how to get it
 */
export function openDevice(options: Readonly<Record<string, string>>): Device {
  for (const name of Object.keys(options)) {
    if (optionNames.includes(name)) continue;
    throw new DeviceError(
      'DEVICE_OPTION_INVALID',
      `the cuda device has no option '${name}'; it has ${optionNames.join(', ')}`,
    );
  }
  const activations = options.activations ?? 'auto';
  if (!activationNames.includes(activations)) {
    const problem = `activations is '${activations}': give ${activationNames.join(', ')}`;
    throw new DeviceError('DEVICE_OPTION_INVALID', problem);
  }
  const { weights } = options;
  if (weights !== undefined && !/^random:\d{1,9}$/.test(weights)) {
    throw new DeviceError(
      'DEVICE_OPTION_INVALID',
      `weights is '${weights}': give random:SEED, or leave it out`,
    );
  }
  const folders = (options.library ?? '').split(':').filter(Boolean);
  return new CudaDevice(new Gpu(Number(options.gpu ?? '0'), folders, process.env), activations, weights);
}

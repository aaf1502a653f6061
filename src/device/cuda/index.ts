import type { Device, DeviceDescription, DeviceModelOptions, DeviceModelSource } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { fp8CapabilityMin } from './fp8.ts';
import { Gpu } from './gpu.ts';
import { activationOf, CudaLoadedWeights, type StorageTypes } from './model.ts';
import type { ActivationType } from './views.ts';

const optionNames = ['gpu', 'library', 'activations', 'matrices', 'weights'];
const matrixNames = ['auto', 'fp8'];
const activationNames = ['auto', 'f32', 'f16', 'bf16'];
const mebibyte = 1024 * 1024;

/** Runs graphs on an NVIDIA GPU: kernels compiled on this machine, products by cuBLASLt, steps as CUDA graphs. */
class CudaDevice implements Device {
  readonly name = 'cuda';
  readonly #gpu: Gpu;
  readonly #activations: string;
  readonly #matrices: string;
  readonly #weights: string | undefined;

  constructor(gpu: Gpu, activations: string, matrices: string, weights: string | undefined) {
    this.#gpu = gpu;
    this.#activations = activations;
    this.#matrices = matrices;
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
        matrices: this.#matrices,
      },
    };
  }

  load(source: DeviceModelSource, options: DeviceModelOptions): CudaLoadedWeights {
    return new CudaLoadedWeights(this.#gpu, this.#filled(source), options, this.#typesOf(source, options));
  }

  /** @throws DeviceError for 8 bits on a GPU that has none, or beside float32 */
  #typesOf(source: DeviceModelSource, { kvDtype }: DeviceModelOptions): StorageTypes {
    const isFp8 = this.#matrices === 'fp8';
    const isKvFp8 = kvDtype === 'fp8';
    const own = this.#activations === 'auto' ? activationOf(source) : (this.#activations as ActivationType);
    const activation = own === 'f32' && this.#activations === 'auto' && (isFp8 || isKvFp8) ? 'bf16' : own;
    if (isFp8 || isKvFp8) this.#checkFp8(activation);
    return { activation, isFp8, kv: isKvFp8 ? 'e4m3' : activation };
  }

  #checkFp8(activation: ActivationType): void {
    const { name, capability } = this.#gpu.facts;
    if (activation === 'f32') {
      const problem =
        'fp8 needs activations of 16 bits: give --device-option activations=bf16, or leave it out';
      throw new DeviceError('DEVICE_OPTION_INVALID', problem);
    }
    if (capability >= fp8CapabilityMin) return;
    const fix = 'leave matrices=fp8 and --kv-dtype fp8 out';
    throw new DeviceError('DEVICE_DTYPE_UNSUPPORTED', `fp8 runs on Hopper and newer, not on ${name}: ${fix}`);
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
 * `f32`, `f16` or `bf16`: what values between ops are stored as; `auto` takes the weights' type), `matrices` (`fp8` makes those of products
 * e4m3 as they are loaded), `weights` (`random:SEED` makes them up on the
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
  const matrices = options.matrices ?? 'auto';
  if (!matrixNames.includes(matrices)) {
    const problem = `matrices is '${matrices}': give ${matrixNames.join(', ')}`;
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
  return new CudaDevice(
    new Gpu(Number(options.gpu ?? '0'), folders, process.env),
    activations,
    matrices,
    weights,
  );
}

import { assert } from '../../base/errors.ts';
import type { Collective } from '../collective/collective.ts';
import type { Device, DeviceDescription, DeviceModelOptions, DeviceModelSource } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { loadDriver } from './driver.ts';
import { findLibrary, systemPlaces } from './find-libraries.ts';
import { fp8CapabilityMin } from './fp8.ts';
import { Gpu } from './gpu.ts';
import { activationOf, CudaLoadedWeights, type CudaModelOptions, type StorageTypes } from './model.ts';
import type { ActivationType } from './views.ts';

const optionNames = ['gpu', 'library', 'activations', 'matrices', 'weights', 'warm-up'];
/** Sequences that `warm-up` may name: more are rarely one bucket for long. */
const warmUpMax = 2048;
const matrixNames = ['auto', 'fp8'];
const activationNames = ['auto', 'f32', 'f16', 'bf16'];
const mebibyte = 1024 * 1024;

/** What {@link openDevice} was told. */
interface CudaOptions {
  /** The GPU's number; of several ranks on one host, rank 0's. */
  readonly ordinal: number;
  readonly folders: readonly string[];
  readonly activations: string;
  readonly matrices: string;
  readonly weights: string | undefined;
  readonly warmUp: number;
}

/** Runs graphs on an NVIDIA GPU: kernels compiled on this machine, products by cuBLASLt, steps as CUDA graphs. */
class CudaDevice implements Device {
  readonly name = 'cuda';
  readonly #options: CudaOptions;
  #opened: Gpu | undefined;

  constructor(options: CudaOptions) {
    this.#options = options;
  }

  /** Opened when it is known which one it is: each rank of a group has its own. */
  #gpu(rank = 0): Gpu {
    const { ordinal, folders } = this.#options;
    this.#opened ??= new Gpu(ordinal + rank, folders, process.env);
    assert(this.#opened.facts.ordinal === ordinal + rank, 'one GPU a process');
    return this.#opened;
  }

  describe(): DeviceDescription {
    const gpu = this.#opened ?? this.#gpu();
    const { facts, compiler, cublas, driver } = gpu;
    const version = (code: number) => `${Math.floor(code / 1000)}.${Math.floor((code % 1000) / 10)}`;
    return {
      name: this.name,
      hardware: `${facts.name}, compute capability ${(facts.capability / 10).toFixed(1)}`,
      memoryBytes: facts.memoryBytes,
      details: {
        'free memory': `${Math.floor(gpu.freeBytes() / mebibyte)} MiB`,
        multiprocessors: `${facts.multiprocessors}`,
        driver: `CUDA ${version(facts.driverVersion)} (${driver.path})`,
        NVRTC: `${compiler.version} (${compiler.path})`,
        headers: compiler.headers,
        cuBLASLt: `${cublas.version} (${cublas.path})`,
        NCCL:
          ncclPath(this.#options.folders) ??
          'not found (only several GPUs need it: pip install nvidia-nccl-cu13)',
        activations: this.#options.activations,
        matrices: this.#options.matrices,
      },
    };
  }

  load(
    source: DeviceModelSource,
    options: DeviceModelOptions,
  ): CudaLoadedWeights | Promise<CudaLoadedWeights> {
    const { collective } = options;
    const gpu = this.#gpu(collective?.rank);
    const types = { ...this.#typesOf(gpu, source, options), warmUp: this.#options.warmUp };
    const filled = this.#filled(source);
    if (!collective || collective.ranks === 1) return new CudaLoadedWeights(gpu, filled, options, types);
    return this.#loadDivided(gpu, filled, { ...options, collective }, types);
  }

  async #loadDivided(
    gpu: Gpu,
    source: DeviceModelSource,
    options: DeviceModelOptions & { collective: Collective },
    types: CudaModelOptions,
  ): Promise<CudaLoadedWeights> {
    const { NcclGroup } = await import('./nccl.ts');
    const group = await NcclGroup.join(gpu, this.#options.folders, options.collective);
    return new CudaLoadedWeights(gpu, source, options, types, group);
  }

  /** @throws DeviceError for 8 bits on a GPU that has none, or beside float32 */
  #typesOf(gpu: Gpu, source: DeviceModelSource, { kvDtype }: DeviceModelOptions): StorageTypes {
    const { activations, matrices } = this.#options;
    const isFp8 = matrices === 'fp8';
    const isKvFp8 = kvDtype === 'fp8';
    if (kvDtype === 'q8_0') {
      const fix = 'give --kv-dtype fp8 for 8 bits';
      throw new DeviceError('DEVICE_DTYPE_UNSUPPORTED', `the cuda device has no q8_0 KV cache: ${fix}`);
    }
    const own = activations === 'auto' ? activationOf(source) : (activations as ActivationType);
    const activation = own === 'f32' && activations === 'auto' && (isFp8 || isKvFp8) ? 'bf16' : own;
    if (isFp8 || isKvFp8) checkFp8(gpu, activation);
    return { activation, isFp8, kv: isKvFp8 ? 'e4m3' : activation };
  }

  /** The source with its weights, or with random ones of the same shapes. */
  #filled(source: DeviceModelSource): DeviceModelSource {
    const path = this.#options.weights;
    if (path === undefined) return source;
    const weights = new Map([...source.weights].map(([name, tensor]) => [name, { ...tensor, path }]));
    return { ...source, weights };
  }

  close(): void {
    this.#opened?.close();
  }
}

function checkFp8({ facts: { name, capability } }: Gpu, activation: ActivationType): void {
  if (activation === 'f32') {
    const problem =
      'fp8 needs activations of 16 bits: give --device-option activations=bf16, or leave it out';
    throw new DeviceError('DEVICE_OPTION_INVALID', problem);
  }
  if (capability >= fp8CapabilityMin) return;
  const fix = 'leave matrices=fp8 and --kv-dtype fp8 out';
  throw new DeviceError('DEVICE_DTYPE_UNSUPPORTED', `fp8 runs on Hopper and newer, not on ${name}: ${fix}`);
}

/** Where NCCL lies; it is not loaded further. */
function ncclPath(folders: readonly string[]): string | undefined {
  try {
    return findLibrary('nccl', systemPlaces(), folders).path;
  } catch {
    return undefined;
  }
}

/**
 * Options: `gpu` (its number, default 0; rank r of a group takes the one r further), `library` (folders of NVRTC, cuBLASLt and CUDA's headers, joined by ':'), `activations` (`auto`,
 * `f32`, `f16` or `bf16`: what values between ops are stored as; `auto` takes the weights' type), `matrices` (`fp8` makes those of products
 * e4m3 as they are loaded), `weights` (`random:SEED` makes them up on the
 * GPU, for benchmarks of a shape whose file holds none), `warm-up` (sequences up to which decoding's programs are captured at load).
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
  const warmUp = Number(options['warm-up'] ?? '0');
  if (!Number.isInteger(warmUp) || warmUp < 0 || warmUp > warmUpMax) {
    const problem = `warm-up is '${options['warm-up']}': give how many sequences, 0 to ${warmUpMax}`;
    throw new DeviceError('DEVICE_OPTION_INVALID', problem);
  }
  const folders = (options.library ?? '').split(':').filter(Boolean);
  // Says at once where there is no GPU at all.
  loadDriver();
  return new CudaDevice({
    ordinal: Number(options.gpu ?? '0'),
    folders,
    activations,
    matrices,
    weights,
    warmUp,
  });
}

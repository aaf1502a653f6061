import type { Device, DeviceModel, DeviceModelSource } from '../../device/device.ts';
import { devices } from '../../device/registry.ts';
import type { EngineCoreOptions } from '../loop/engine-options.ts';
import { defaultKvBytes } from './kv-memory.ts';

/** How a model is put on a device, and how much room its engine gets. */
export interface EngineSizes {
  /** A registry name of `device/registry.ts`. */
  device: string;
  deviceOptions: Record<string, string>;
  threads: number;
  /** Sequences in flight at most. */
  slots: number;
  /** Token budget of one step. */
  batchTokensMax: number;
  kvDtype: 'f16' | 'f32';
  /** Absent: {@link defaultKvBytes}. */
  kvBytesMax?: number;
  /** This engine's part of the memory that {@link defaultKvBytes} may take: 1 / engines on the machine. Default 1. */
  memoryShare?: number;
  /** Positions a sequence, if less than the model's own. */
  contextLength?: number;
  prefixReuse: boolean;
  /** By TensorRT-LLM's name; see `capacity.ts`. */
  capacityPolicy?: string;
}

/** A model on its device, and what an {@link EngineCore} over it is made with. */
export interface LoadedEngine {
  device: Device;
  model: DeviceModel;
  options: EngineCoreOptions;
}

/**
 * Opens the device and loads the model. A KV cache that holds less than one sequence of full length shortens the context, so that a
 * request without a token limit still fits.
 * @throws UnknownNameError, DeviceError
 */
export async function loadModel(
  name: string,
  source: DeviceModelSource,
  sizes: EngineSizes,
): Promise<LoadedEngine> {
  const device = await (await devices.load(sizes.device)).openDevice(sizes.deviceOptions);
  const contextWanted = Math.min(source.contextLength, sizes.contextLength ?? source.contextLength);
  let model: DeviceModel;
  try {
    model = await device.load({ ...source, contextLength: contextWanted }, sizes);
  } catch (thrown) {
    device.close();
    throw thrown;
  }
  const { slots, batchTokensMax, prefixReuse, capacityPolicy } = sizes;
  const perPosition = Math.max(1, model.kvBytesPerPosition);
  const kvBytesMax = sizes.kvBytesMax ?? defaultKvBytes(slots, contextWanted, perPosition, sizes.memoryShare);
  const contextLength = Math.max(2, Math.min(contextWanted, Math.floor(kvBytesMax / perPosition)));
  const { vocabularySize } = source;
  const room = { slots, batchTokensMax, kvBytesMax, contextLength, prefixReuse, capacityPolicy };
  return { device, model, options: { name, device: device.name, vocabularySize, ...room } };
}

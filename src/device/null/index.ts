import { totalmem } from 'node:os';
import type { Device, DeviceModelSource, KvDtype, LoadedWeights } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { hostMemory } from '../host-memory.ts';
import { NullModel } from './model.ts';
import { parseNullOptions } from './options.ts';

export { NullModel } from './model.ts';
export { type NullMode, type NullOptions, nullOptionNames, parseNullOptions } from './options.ts';

/** Positions of a KV block unless the engine is told otherwise: what GPUs use. */
const blockPositions = 32;
/** Columns of the final hidden states that it makes up. */
const hiddenWidth = 16;
/** What a cache would take, if it held anything. */
const kvBytes: Record<KvDtype, number> = { f32: 4, f16: 2, fp8: 1, q8_0: 34 / 32 };

/**
 * The device without mathematics: tokens come from a hash of the sequence's history (or a script) after a given step time, so that
 * scheduler, protocols and load tools run at data-centre rates on a laptop. Its KV cache is cut into blocks, as a GPU's.
 * @throws DeviceError `DEVICE_OPTION_INVALID`
 */
export function openDevice(texts: Readonly<Record<string, string>>): Device {
  const options = parseNullOptions(texts);
  return {
    name: 'null',
    describe: () => ({
      name: 'null',
      hardware: `no maths: ${options.mode} tokens, ${options.stepMs} ms a step`,
      memoryBytes: totalmem(),
      details: Object.fromEntries(Object.entries(options).map(([name, value]) => [name, String(value)])),
    }),
    load: (source, modelOptions): LoadedWeights => {
      const elements = source.kv.layers.reduce(
        (sum, layer) => sum + layer.keyElements + layer.valueElements,
        0,
      );
      const bytesPerPosition = Math.ceil(elements * kvBytes[modelOptions.kvDtype]);
      return {
        weightBytes: 0,
        kv: { bytesPerPosition, layout: 'either', blockPositions },
        memory: hostMemory,
        allocateKv: (size) => new NullModel(source, modelOptions, options, { ...size, bytesPerPosition }),
        close: () => {},
      };
    },
    close: () => {},
  };
}

/**
 * A model source with no network and no weights, for the null device alone. One position takes 128 bytes of KV in f16.
 * @param handsOn it stands for a pipeline stage that is not the last
 */
export function nullModelSource(
  size: { vocabularySize: number; contextLength: number },
  handsOn = false,
): DeviceModelSource {
  return {
    record: () => {
      throw new DeviceError(
        'DEVICE_OP_UNSUPPORTED',
        'a null model has no network: run it with --device null',
      );
    },
    weights: new Map(),
    kv: { layers: [{ kind: 'self', keyElements: 32, valueElements: 32 }] },
    hiddenWidth: handsOn ? 0 : hiddenWidth,
    handsOn,
    ...size,
  };
}

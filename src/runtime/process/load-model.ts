import { type AdapterRoom, bytesPerRank, linearShapes } from '../../device/adapters.ts';
import type { Device, DeviceModel, DeviceModelSource, KvDtype, LoadedWeights } from '../../device/device.ts';
import { devices } from '../../device/registry.ts';
import { type AdapterSettings, rankUsual } from '../adapters/adapter.ts';
import type { EngineCoreOptions } from '../loop/engine-options.ts';
import { memoryStore } from '../outputs/memory-segment.ts';
import { outputBytesMaxDefault } from '../outputs/output-store.ts';
import type { SpeculationSettings } from '../speculation/settings.ts';

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
  kvDtype: KvDtype;
  /** Absent: what all sequences at full length would take, at most the device's default share of its free memory. */
  kvBytesMax?: number | undefined;
  /** Positions that the KV cache holds at most, whatever memory there is. Absent: no bound. */
  kvPositionsMax?: number | undefined;
  /** Share of the device's free memory that KV caches may take, instead of the device's default. */
  kvMemoryShare?: number;
  /** This engine's part of that share: 1 / engines on the machine. Default 1. */
  memoryShare?: number;
  /** Positions of a KV block; absent: the device's own choice, a slot a sequence on CPU. */
  kvBlockPositions?: number;
  /** Host memory that evicted KV blocks move to. Default 0: none. */
  kvHostBytesMax?: number | undefined;
  /** Positions a sequence, if less than the model's own. */
  contextLength?: number;
  prefixReuse: boolean;
  /** By TensorRT-LLM's name; see `plan/capacity.ts`. */
  capacityPolicy?: string;
  /** How LoRA adapters are kept. Absent: none are served. */
  adapters?: AdapterSettings;
  /** How tokens are guessed ahead; absent: only as requests ask. */
  speculation?: SpeculationSettings | undefined;
  /** Memory for the logits and hidden states that requests ask for. Default {@link outputBytesMaxDefault}. */
  outputBytesMax?: number | undefined;
  /** Steps that may be in flight, as far as the device can; 1 is the plain loop. Default 2. */
  inFlightStepsMax?: number;
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
 * @param led makes of rank 0's device that of its whole group
 * @throws UnknownNameError, DeviceError
 */
export async function loadModel(
  name: string,
  source: DeviceModelSource,
  sizes: EngineSizes,
  led: (own: Device) => Device = (own) => own,
): Promise<LoadedEngine> {
  const device = led(await (await devices.load(sizes.device)).openDevice(sizes.deviceOptions));
  try {
    const contextWanted = Math.min(source.contextLength, sizes.contextLength ?? source.contextLength);
    const { adapters: settings, ...own } = sizes;
    const adapters = settings && adapterRoom(source, settings);
    const weights = await device.load(
      { ...source, contextLength: contextWanted },
      { ...own, ...(adapters && { adapters }) },
    );
    const room = roomFor(weights, contextWanted, sizes);
    const model = await weights.allocateKv(room.pool);
    const { slots, batchTokensMax, prefixReuse, capacityPolicy, inFlightStepsMax } = sizes;
    const { outputBytesMax = outputBytesMaxDefault } = sizes;
    return {
      device,
      model,
      options: {
        name,
        device: device.name,
        vocabularySize: source.vocabularySize,
        contextLength: room.contextLength,
        kvBytesMax: room.kvBytesMax,
        outputs: memoryStore(outputBytesMax),
        ...{ sequencesMax: slots, batchTokensMax, prefixReuse, capacityPolicy, inFlightStepsMax },
      },
    };
  } catch (thrown) {
    device.close();
    throw thrown;
  }
}

function adapterRoom(
  source: DeviceModelSource,
  { slots, rankMax, deviceBytesMax, rankUsual: rank = rankUsual }: AdapterSettings,
): AdapterRoom {
  const usual = Math.max(slots * Math.min(rank, rankMax), rankMax);
  if (deviceBytesMax === undefined) return { slots, rankMax, rankRows: usual };
  // A model without weights has no linears either: whatever is given, there is room.
  const bytes =
    source.weights.size === 0 ? 0 : bytesPerRank(linearShapes(source.record({ tokens: 1, outputRows: 1 })));
  const rankRows = bytes === 0 ? usual : Math.floor(deviceBytesMax / bytes);
  return { slots, rankMax: Math.min(rankMax, rankRows), rankRows };
}

/** Sizes the KV cache by what the weights left free. It is a bound for admission; on CPU, pages are touched as positions are written. */
function roomFor(weights: LoadedWeights, contextWanted: number, sizes: EngineSizes) {
  const { slots, memoryShare = 1, kvHostBytesMax = 0 } = sizes;
  const perPosition = Math.max(1, weights.kv.bytesPerPosition);
  const { freeBytes, kvShareDefault } = weights.memory();
  const affordable = Math.floor(freeBytes * (sizes.kvMemoryShare ?? kvShareDefault) * memoryShare);
  const wanted = sizes.kvBytesMax ?? Math.min(slots * contextWanted * perPosition, affordable);
  const kvBytesMax = Math.min(wanted, (sizes.kvPositionsMax ?? Number.POSITIVE_INFINITY) * perPosition);
  const contextLength = Math.max(2, Math.min(contextWanted, Math.floor(kvBytesMax / perPosition)));
  const blockPositions = Math.min(contextWanted, sizes.kvBlockPositions ?? weights.kv.blockPositions);
  const blockBytes = blockPositions * perPosition;
  const isSlots = blockPositions >= contextLength;
  const pool = {
    // A slot takes up memory only as far as it is written, so that there may be one for every sequence.
    blocks: isSlots ? slots : Math.max(1, Math.floor(kvBytesMax / blockBytes)),
    blockPositions: isSlots ? contextWanted : blockPositions,
    hostBlocks: Math.floor(kvHostBytesMax / blockBytes),
  };
  // Blocks are whole: what is left of a context that does not fill the last one cannot be promised.
  const whole = isSlots ? contextLength : Math.min(contextLength, pool.blocks * blockPositions);
  return { pool, kvBytesMax, contextLength: whole };
}

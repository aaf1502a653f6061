import { SeededRandom } from '../../src/base/random.ts';
import { type AdapterTensors, linearShapes } from '../../src/device/adapters.ts';
import type { DeviceModel, DeviceModelSource } from '../../src/device/device.ts';
import type { AdapterSettings } from '../../src/runtime/adapters/adapter.ts';
import { AdapterCache } from '../../src/runtime/adapters/adapter-cache.ts';
import type { AdapterReference } from '../../src/runtime/requests/request.ts';

/** Two adapters, of ranks 4 and 2; requests take them in turn. */
export const featureAdapters: readonly AdapterReference[] = ['a', 'b'].map((name) => ({
  name,
  digest: name.repeat(64),
}));

export const adapterSettings: AdapterSettings = { slots: 2, rankMax: 8, hostBytesMax: 16 * 1024 * 1024 };

/** A cache with both of them, over all linears of the model. */
export async function openFeatureAdapters(
  model: DeviceModel,
  source: DeviceModelSource,
): Promise<AdapterCache | undefined> {
  if (!model.adapters) return undefined;
  const load = async (path: string) =>
    adapterOf(
      source,
      featureAdapters.findIndex(({ name }) => name === path),
    );
  const cache = new AdapterCache({ slots: model.adapters, load, hostBytesMax: adapterSettings.hostBytesMax });
  for (const { name } of featureAdapters) await cache.load({ name, path: name });
  return cache;
}

function adapterOf(source: DeviceModelSource, index: number): AdapterTensors {
  const random = new SeededRandom(50 + index);
  const rank = index === 0 ? 4 : 2;
  const floats = (length: number) => Float32Array.from({ length }, () => (random.next() * 2 - 1) * 0.3);
  const shapes =
    source.weights.size === 0 ? [] : [...linearShapes(source.record({ tokens: 1, outputRows: 1 }))];
  const parts = shapes.map(([name, { inputs, outputs }]) => ({
    ...{ name, rank, inputs, outputs },
    ...{ a: floats(rank * inputs), b: floats(outputs * rank) },
  }));
  const byteLength = parts.reduce((sum, { a, b }) => sum + a.byteLength + b.byteLength, 0);
  return { digest: featureAdapters[index]!.digest, rank, parts, byteLength };
}

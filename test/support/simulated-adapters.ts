import { createHash } from 'node:crypto';
import type { SeededRandom } from '../../src/base/random.ts';
import type { AdapterRoom, AdapterTensors } from '../../src/device/adapters.ts';
import type { DeviceModel } from '../../src/device/device.ts';
import { AdapterCache } from '../../src/runtime/adapters/adapter-cache.ts';
import type { GenerationRequest } from '../../src/runtime/requests/request.ts';

/** Adapters that the null device tells apart by their digests. Ranks differ, so that fewer fit than there are slots. */
const tensors: readonly AdapterTensors[] = [8, 16, 8, 24, 5].map((rank, index) => ({
  digest: createHash('sha256').update(`${index}`).digest('hex'),
  rank,
  parts: [],
  byteLength: 1,
}));

/** Room for all of them. */
export const wholeAdapterRoom: AdapterRoom = { slots: tensors.length, rankMax: 24, rankRows: 72 };

/** Room for one of them at least, mostly not for all. */
export function randomAdapterRoom(random: SeededRandom): AdapterRoom {
  return { slots: 1 + random.integer(4), rankMax: 24, rankRows: 24 + random.integer(48) };
}

/** Gives some requests an adapter. */
export function addAdapters(random: SeededRandom, requests: readonly GenerationRequest[]): void {
  const isUsed = random.integer(3) > 0;
  for (const request of requests) {
    const one = tensors[random.integer(tensors.length + 2)];
    if (isUsed && one) request.adapter = { name: one.digest.slice(0, 8), digest: one.digest };
  }
}

/** A cache over a model's slots that knows all of them. */
export async function simulatedAdapters(model: DeviceModel): Promise<AdapterCache | undefined> {
  if (!model.adapters) return undefined;
  const load = async (path: string): Promise<AdapterTensors> => tensors[Number(path)]!;
  const cache = new AdapterCache({ slots: model.adapters, load, hostBytesMax: tensors.length });
  for (const [index, { digest }] of tensors.entries()) {
    await cache.load({ name: digest.slice(0, 8), path: `${index}` });
  }
  return cache;
}

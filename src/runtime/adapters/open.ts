import { loadAdapter } from '../../builder/adapter.ts';
import type { AdapterSlots } from '../../device/adapters.ts';
import type { ModelLinear } from '../../models/linears.ts';
import { adaptersUnsupported } from '../errors.ts';
import type { AdapterSettings, AdapterSource } from './adapter.ts';
import { AdapterCache } from './adapter-cache.ts';

/** What an engine process is told about adapters. */
export interface AdapterConfiguration {
  device: string;
  adapters?: AdapterSettings | undefined;
  adaptersAtStart?: readonly AdapterSource[];
}

/** @param linears what adapters may change; absent for a model without a network, which takes any */
export function openAdapterCache(
  slots: AdapterSlots,
  { hostBytesMax }: AdapterSettings,
  linears: (() => readonly ModelLinear[]) | undefined,
): AdapterCache {
  let known: readonly ModelLinear[] | undefined;
  return new AdapterCache({
    slots,
    hostBytesMax,
    load: (path) => {
      known ??= linears?.();
      return loadAdapter(path, known);
    },
  });
}

/**
 * The cache of an engine's adapters with those that it begins with; undefined where its device serves none.
 * @throws RuntimeError `ADAPTERS_UNSUPPORTED`; what loading an adapter throws
 */
export async function openAdapters(
  slots: AdapterSlots | undefined,
  { adapters: settings, adaptersAtStart = [], device }: AdapterConfiguration,
  linears: (() => readonly ModelLinear[]) | undefined,
): Promise<AdapterCache | undefined> {
  if (!slots || !settings) {
    if (adaptersAtStart.length > 0) throw adaptersUnsupported(device);
    return undefined;
  }
  const cache = openAdapterCache(slots, settings, linears);
  for (const one of adaptersAtStart) await cache.load(one);
  return cache;
}

import { loadAdapter } from '../../builder/adapter.ts';
import type { AdapterSlots } from '../../device/adapters.ts';
import type { ModelLinear } from '../../models/linears.ts';
import type { AdapterSettings } from './adapter.ts';
import { AdapterCache } from './adapter-cache.ts';

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

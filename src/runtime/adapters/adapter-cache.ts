import { messageOf, NereidError } from '../../base/errors.ts';
import { type AdapterSlots, type AdapterTensors, adapterRankRows } from '../../device/adapters.ts';
import { adapterNotLoaded, RuntimeError } from '../errors.ts';
import type { AdapterReference } from '../requests/request.ts';
import type { AdapterUse } from '../requests/statistics.ts';
import { adapterName, adapterNameRule } from '../requests/validate.ts';
import {
  type AdapterDescription,
  type AdapterDirectory,
  type AdapterLoader,
  type AdapterSource,
  adaptersMax,
} from './adapter.ts';
import { AdapterLease } from './adapter-lease.ts';
import { DeviceSlots, type PlacedAdapter } from './device-slots.ts';

/**
 * Requests that may take an adapter that is on the device already while another request waits for a place there; after so many the one that
 * waits comes first.
 */
export const adapterOvertakesMax = 64;

/** An adapter that the cache knows: by name, or because requests still run with it. */
export interface KnownAdapter extends PlacedAdapter {
  description: AdapterDescription;
  /** Its tensors, while they are in host memory. */
  tensors: AdapterTensors | undefined;
  /** While its files are read again. */
  reading: Promise<void> | undefined;
}

/** What an {@link AdapterCache} is made of. */
export interface AdapterCacheOptions {
  slots: AdapterSlots;
  load: AdapterLoader;
  hostBytesMax: number;
}

/**
 * The adapters of one engine. What was loaded lies in host memory, as far as that may go, and what requests need on the device; what nobody
 * needs leaves either in order of its last use. Requests wait for their adapter's place in order of arrival.
 */
export class AdapterCache implements AdapterDirectory {
  readonly #options: AdapterCacheOptions;
  readonly #device: DeviceSlots;
  readonly #names = new Map<string, KnownAdapter>();
  /** Those with a name, and those that requests still hold, by digest. */
  readonly #known = new Map<string, KnownAdapter>();
  #waiting: AdapterLease[] = [];
  /** Leases granted past the first one that waits. */
  #overtakes = 0;
  #uses = 0;
  #hostBytes = 0;
  /** Hears that {@link list} says something else now. */
  onChange: (() => void) | undefined;

  constructor(options: AdapterCacheOptions) {
    this.#options = options;
    this.#device = new DeviceSlots(options.slots);
  }

  list(): AdapterDescription[] {
    return [...this.#names.values()].map(({ description }) => description);
  }

  /** Gauges for metrics. */
  usage(): { loaded: number; onDevice: number; hostBytes: number; waiting: number } {
    const { count: onDevice } = this.#device;
    return {
      loaded: this.#names.size,
      onDevice,
      hostBytes: this.#hostBytes,
      waiting: this.#waiting.length,
    };
  }

  /** Whose requests have a place on the device, and whose wait for one. */
  use(): AdapterUse {
    const nameOf = ({ description }: KnownAdapter) => description.name;
    const running = [...this.#known.values()].filter(({ pins }) => pins > 0).map(nameOf);
    const waiting = new Set(this.#waiting.map(({ adapter }) => nameOf(adapter as KnownAdapter)));
    return { running, waiting: [...waiting], slots: this.#options.slots.slots };
  }

  async load(source: AdapterSource): Promise<AdapterDescription> {
    const { name, path } = source;
    if (!adapterName.test(name)) {
      throw new RuntimeError(
        'ADAPTER_INVALID',
        `'${name.slice(0, 200)}' names no adapter; ${adapterNameRule}`,
      );
    }
    if (!this.#names.has(name) && this.#names.size >= adaptersMax) {
      throw new RuntimeError(
        'ADAPTER_CACHE_FULL',
        `${adaptersMax} adapters are loaded (adaptersMax); unload one`,
      );
    }
    const tensors = await this.#options.load(path);
    this.#checkRoom(name, tensors);
    const { digest, rank, parts, byteLength } = tensors;
    const description = { ...source, digest, rank, linears: parts.length, byteLength };
    const known = this.#known.get(digest);
    const adapter: KnownAdapter = known ?? {
      ...{ description, tensors: undefined, reading: undefined, slot: -1, pins: 0 },
      usedAt: ++this.#uses,
      rankRows: adapterRankRows(tensors),
    };
    if (!known?.tensors) this.#hold(adapter, tensors);
    adapter.description = description;
    const before = this.#names.get(name);
    this.#names.set(name, adapter);
    this.#known.set(digest, adapter);
    if (before && before !== adapter) this.#dropUnnamed(before);
    this.onChange?.();
    return description;
  }

  async unload(name: string): Promise<void> {
    const adapter = this.#names.get(name);
    if (!adapter) throw adapterNotLoaded(name);
    this.#names.delete(name);
    this.#dropUnnamed(adapter);
    this.onChange?.();
  }

  /**
   * What a request must wait for: its adapter's place on the device, kept until the lease is released.
   * @throws RuntimeError `ADAPTER_NOT_FOUND`
   */
  lease({ name, digest }: AdapterReference): AdapterLease {
    const adapter = this.#known.get(digest);
    if (!adapter) throw adapterNotLoaded(name);
    const lease = new AdapterLease(adapter, (left) => this.#release(left));
    const isOvertaking = this.#waiting.length > 0;
    if (adapter.slot >= 0 && (!isOvertaking || this.#overtakes < adapterOvertakesMax)) {
      if (isOvertaking) this.#overtakes++;
      adapter.pins++;
      lease.grant();
    } else {
      this.#waiting.push(lease);
      this.#serve();
    }
    return lease;
  }

  /** Gives waiting leases what there is: in order, except that one whose files are being read holds nobody back. */
  #serve(): void {
    const left: AdapterLease[] = [];
    const granted: AdapterLease[] = [];
    const waiting = this.#waiting;
    let isBlocked = false;
    for (const lease of waiting) {
      const adapter = lease.adapter as KnownAdapter;
      if (adapter.slot < 0 && !adapter.tensors) this.#read(adapter);
      const isThere = adapter.slot >= 0 && (!isBlocked || this.#overtakes < adapterOvertakesMax);
      const canPlace = adapter.slot < 0 && adapter.tensors !== undefined && !isBlocked;
      if (isThere || (canPlace && adapter.tensors && this.#device.place(adapter, adapter.tensors))) {
        adapter.pins++;
        granted.push(lease);
        this.#overtakes = isBlocked ? this.#overtakes + 1 : 0;
        continue;
      }
      if (adapter.tensors) isBlocked = true;
      left.push(lease);
    }
    this.#waiting = left;
    if (left.length === 0) this.#overtakes = 0;
    for (const lease of granted) lease.grant();
  }

  #release(lease: AdapterLease): void {
    const adapter = lease.adapter as KnownAdapter;
    if (lease.isReady) {
      adapter.pins--;
      adapter.usedAt = ++this.#uses;
    } else this.#waiting = this.#waiting.filter((one) => one !== lease);
    this.#dropUnnamed(adapter);
    this.#serve();
  }

  /** Reads an adapter's files again. */
  #read(adapter: KnownAdapter): void {
    adapter.reading ??= this.#reread(adapter).catch((thrown: unknown) => {
      const failed = this.#waiting.filter((lease) => lease.adapter === adapter);
      this.#waiting = this.#waiting.filter((lease) => lease.adapter !== adapter);
      for (const lease of failed) lease.fail(thrown);
    });
  }

  async #reread(adapter: KnownAdapter): Promise<void> {
    const { name, path, digest } = adapter.description;
    try {
      const tensors = await this.#options.load(path);
      if (tensors.digest !== digest) {
        const problem = `the files of adapter '${name}' (${path}) changed since it was loaded`;
        throw new RuntimeError('ADAPTER_INVALID', `${problem}; load it again`);
      }
      this.#hold(adapter, tensors);
    } catch (thrown) {
      if (thrown instanceof NereidError) throw thrown;
      throw new RuntimeError('ADAPTER_INVALID', `adapter '${name}' cannot be read: ${messageOf(thrown)}`);
    } finally {
      adapter.reading = undefined;
    }
    this.#serve();
  }

  #hold(adapter: KnownAdapter, tensors: AdapterTensors): void {
    this.#letGo(adapter);
    adapter.tensors = tensors;
    adapter.usedAt = ++this.#uses;
    this.#hostBytes += tensors.byteLength;
    const idle = [...this.#known.values()]
      .filter((one) => one.tensors && one.pins === 0 && one !== adapter && !this.#isWaitedFor(one))
      .sort((a, b) => a.usedAt - b.usedAt);
    for (const one of idle) {
      if (this.#hostBytes <= this.#options.hostBytesMax) return;
      this.#evict(one);
    }
  }

  #isWaitedFor(adapter: KnownAdapter): boolean {
    return this.#waiting.some((lease) => lease.adapter === adapter);
  }

  /** Leaves host memory. One that a client would have to send again is forgotten; others are known on, and on the device they stay. */
  #evict(adapter: KnownAdapter): void {
    this.#letGo(adapter);
    if (!adapter.description.isTransient) return;
    for (const [name, one] of this.#names) if (one === adapter) this.#names.delete(name);
    this.#dropUnnamed(adapter);
    this.onChange?.();
  }

  #letGo(adapter: KnownAdapter): void {
    this.#hostBytes -= adapter.tensors?.byteLength ?? 0;
    adapter.tensors = undefined;
  }

  /** Forgets an adapter that has no name any more and that no request needs. */
  #dropUnnamed(adapter: KnownAdapter): void {
    if (adapter.pins > 0 || this.#isWaitedFor(adapter)) return;
    for (const one of this.#names.values()) if (one === adapter) return;
    this.#device.remove(adapter);
    this.#letGo(adapter);
    this.#known.delete(adapter.description.digest);
  }

  #checkRoom(name: string, tensors: AdapterTensors): void {
    const { slots, hostBytesMax } = this.#options;
    if (tensors.rank > slots.rankMax) {
      const problem = `adapter '${name}' has rank ${tensors.rank}, and this engine takes ranks up to ${slots.rankMax}`;
      throw new RuntimeError('ADAPTER_TOO_LARGE', `${problem}; start it with a larger --max-lora-rank`);
    }
    if (!this.#device.couldFit(tensors)) {
      const problem = `adapter '${name}' of rank ${tensors.rank} does not fit the ${slots.rankRows} ranks that the device has room for`;
      throw new RuntimeError('ADAPTER_TOO_LARGE', `${problem}; give a larger --lora-device-cache-size`);
    }
    if (tensors.byteLength <= hostBytesMax) {
      this.#checkPinned(name, tensors);
      return;
    }
    const problem = `adapter '${name}' takes ${tensors.byteLength} bytes, over the ${hostBytesMax} of the host cache`;
    throw new RuntimeError('ADAPTER_TOO_LARGE', `${problem}; give a larger --lora-host-cache-size`);
  }

  /** What requests run with stays in host memory. */
  #checkPinned(name: string, { digest, byteLength }: AdapterTensors): void {
    let bytes = byteLength;
    for (const one of this.#known.values()) {
      const isHeld = one.pins > 0 || this.#isWaitedFor(one);
      if (isHeld && one.description.digest !== digest) bytes += one.tensors?.byteLength ?? 0;
    }
    const { hostBytesMax } = this.#options;
    if (bytes <= hostBytesMax) return;
    const problem = `the host cache of ${hostBytesMax} bytes is full of adapters that requests run with: no room for '${name}'`;
    throw new RuntimeError(
      'ADAPTER_CACHE_FULL',
      `${problem}; try again later, or give a larger --lora-host-cache-size`,
    );
  }
}

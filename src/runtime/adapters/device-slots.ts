import { type AdapterSlots, type AdapterTensors, adapterRankRows } from '../../device/adapters.ts';

/** An adapter as far as its place on the device goes. */
export interface PlacedAdapter {
  /** What it takes of the device's rows of ranks. */
  readonly rankRows: number;
  /** Its slot on the device; −1 for none. */
  slot: number;
  /** Requests that need it there. */
  pins: number;
  /** When it was last let go, in a count of such events. */
  usedAt: number;
}

/** The device's slots as a cache: what no request needs stays until its place is needed, least recently used first out. */
export class DeviceSlots {
  readonly #slots: AdapterSlots;
  readonly #held: (PlacedAdapter | undefined)[];

  constructor(slots: AdapterSlots) {
    this.#slots = slots;
    this.#held = Array.from({ length: slots.slots }, () => undefined);
  }

  /** Adapters on the device. */
  get count(): number {
    return this.#held.reduce((sum, one) => sum + (one ? 1 : 0), 0);
  }

  /** Whether it would fit with nobody else there. */
  couldFit(tensors: Pick<AdapterTensors, 'rank'>): boolean {
    return tensors.rank <= this.#slots.rankMax && adapterRankRows(tensors) <= this.#slots.rankRows;
  }

  /**
   * Puts an adapter on the device, in place of others that nobody needs now.
   * @returns whether there was room
   */
  place(adapter: PlacedAdapter, tensors: AdapterTensors): boolean {
    const wanted = adapter.rankRows;
    const held = this.#held.filter((one) => one !== undefined);
    const pinned = held.filter(({ pins }) => pins > 0);
    const rowsPinned = pinned.reduce((sum, one) => sum + one.rankRows, 0);
    if (pinned.length >= this.#slots.slots || rowsPinned + wanted > this.#slots.rankRows) return false;
    const idle = held.filter(({ pins }) => pins === 0).sort((a, b) => a.usedAt - b.usedAt);
    let rows = held.reduce((sum, one) => sum + one.rankRows, 0);
    let slot = this.#held.indexOf(undefined);
    while (slot < 0 || rows + wanted > this.#slots.rankRows) {
      const victim = idle.shift();
      if (!victim) return false;
      rows -= victim.rankRows;
      this.remove(victim);
      slot = this.#held.indexOf(undefined);
    }
    this.#slots.load(slot, tensors);
    this.#held[slot] = adapter;
    adapter.slot = slot;
    return true;
  }

  /** Takes an adapter off the device, if it is there. */
  remove(adapter: PlacedAdapter): void {
    if (adapter.slot < 0) return;
    this.#slots.unload(adapter.slot);
    this.#held[adapter.slot] = undefined;
    adapter.slot = -1;
  }
}

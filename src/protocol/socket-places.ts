/** A client's socket that holds a place. */
export interface Placed {
  /** Of the client's machine. */
  readonly address: string;
  /** Hangs up, to make room for another. */
  evict(): void;
}

/** Bounds of {@link SocketPlaces}. */
export interface SocketPlacesOptions {
  socketsMax: number;
  socketsPerAddressMax: number;
}

interface Address {
  count: number;
  /** Those that owe us (the rest of) a request, the longest waiting first. */
  waiting: Set<Placed>;
}

/**
 * The open sockets of a process's clients, over all of its ports. When there are too many, one that has no whole request makes room, the longest
 * waiting of the address with the most: who holds sockets and asks nothing only gets in its own way.
 */
export class SocketPlaces {
  readonly #options: SocketPlacesOptions;
  readonly #addresses = new Map<string, Address>();
  readonly #placed = new Set<Placed>();

  constructor(options: SocketPlacesOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#placed.size;
  }

  /** A new socket, which has asked nothing so far. @returns false when every one that could make room has a whole request */
  take(socket: Placed): boolean {
    if (!this.#makeRoom(socket.address)) return false;
    this.#placed.add(socket);
    const address = this.#addresses.get(socket.address) ?? { count: 0, waiting: new Set() };
    this.#addresses.set(socket.address, address);
    address.count++;
    address.waiting.add(socket);
    return true;
  }

  /** Whether we wait for it (it may make room), or it for us. */
  setWaiting(socket: Placed, isWaiting: boolean): void {
    if (!this.#placed.has(socket)) return;
    const waiting = this.#addresses.get(socket.address)?.waiting;
    if (isWaiting) waiting?.add(socket);
    else waiting?.delete(socket);
  }

  /** The socket is closed. Twice is harmless. */
  leave(socket: Placed): void {
    if (!this.#placed.delete(socket)) return;
    const address = this.#addresses.get(socket.address);
    address?.waiting.delete(socket);
    if (address && --address.count === 0) this.#addresses.delete(socket.address);
  }

  #makeRoom(asking: string): boolean {
    const { socketsMax, socketsPerAddressMax } = this.#options;
    const own = this.#addresses.get(asking);
    if (own && own.count >= socketsPerAddressMax) return this.#evict(own);
    if (this.size < socketsMax) return true;
    let most: Address | undefined;
    for (const address of this.#addresses.values()) {
      if (address.waiting.size > 0 && address.count > (most?.count ?? 0)) most = address;
    }
    return this.#evict(most);
  }

  #evict(address: Address | undefined): boolean {
    const [oldest] = address?.waiting ?? [];
    if (!oldest) return false;
    // Its 'close' comes later; the place is free now.
    this.leave(oldest);
    oldest.evict();
    return true;
  }
}

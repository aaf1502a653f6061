import { type KvOperations, kvOperation } from '../../device/step.ts';

/** Collects KV operations until a step takes them along. Grows as needed; what a step took stays valid until the next is taken. */
export class OperationList {
  #count = 0;
  #kinds = new Uint8Array(64);
  #columns = [0, 1, 2].map(() => new Int32Array(64)) as [Int32Array, Int32Array, Int32Array];

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  copy(from: number, to: number, positions: number): void {
    this.#add(kvOperation.copy, from, to, positions);
  }

  release(block: number): void {
    this.#add(kvOperation.release, block, 0, 0);
  }

  toHost(block: number, hostBlock: number): void {
    this.#add(kvOperation.toHost, block, hostBlock, 0);
  }

  fromHost(hostBlock: number, block: number): void {
    this.#add(kvOperation.fromHost, hostBlock, block, 0);
  }

  /** The operations so far, as values of their own. */
  take(): KvOperations {
    const count = this.#count;
    this.#count = 0;
    const [from, to, positions] = this.#columns;
    return {
      count,
      kinds: this.#kinds.slice(0, count),
      from: from.slice(0, count),
      to: to.slice(0, count),
      positions: positions.slice(0, count),
    };
  }

  #add(kind: number, from: number, to: number, positions: number): void {
    if (this.#count === this.#kinds.length) this.#grow();
    const at = this.#count++;
    this.#kinds[at] = kind;
    this.#columns[0][at] = from;
    this.#columns[1][at] = to;
    this.#columns[2][at] = positions;
  }

  #grow(): void {
    const kinds = new Uint8Array(this.#kinds.length * 2);
    kinds.set(this.#kinds);
    this.#kinds = kinds;
    this.#columns = this.#columns.map((column) => {
      const grown = new Int32Array(column.length * 2);
      grown.set(column);
      return grown;
    }) as [Int32Array, Int32Array, Int32Array];
  }
}

import type { OperationList } from './operation-list.ts';
import type { PrefixNode } from './prefix-index.ts';
import { RecencyList } from './recency-list.ts';

/** Where a chunk's KV lies: in a block of the device, of the host, or both; −1 for neither. */
export interface BlockHolder {
  block: number;
  hostBlock: number;
}

type Node = PrefixNode<BlockHolder>;

/** Blocks in host memory that hold what the device evicted, least recently used first to go. */
export class HostTier {
  readonly #recency: RecencyList;
  readonly #nodes: (Node | undefined)[];
  readonly #free: number[];
  readonly #onLost: (node: Node) => void;

  /** @param onLost a chunk's host block was given to another; it may lie nowhere now */
  constructor(blocks: number, onLost: (node: Node) => void) {
    this.#recency = new RecencyList(blocks);
    this.#nodes = new Array(blocks).fill(undefined);
    this.#free = Array.from({ length: blocks }, (_, index) => blocks - 1 - index);
    this.#onLost = onLost;
  }

  get used(): number {
    return this.#recency.size;
  }

  /** Copies a chunk that the device is about to give up here. @returns false if there is no host tier */
  keep(node: Node, operations: OperationList): boolean {
    if (node.holder.hostBlock >= 0) {
      this.touch(node);
      return true;
    }
    let hostBlock = this.#free.pop();
    if (hostBlock === undefined) {
      const oldest = this.#recency.oldest;
      if (oldest < 0) return false;
      const lost = this.#nodes[oldest];
      if (lost) {
        // A chunk behind it can be found no more: the chunk to keep must not be one of them.
        if (isBehind(node, lost)) return false;
        this.drop(lost);
        this.#onLost(lost);
      }
      hostBlock = this.#free.pop();
      if (hostBlock === undefined) return false;
    }
    operations.toHost(node.holder.block, hostBlock);
    node.holder.hostBlock = hostBlock;
    this.#nodes[hostBlock] = node;
    this.#recency.add(hostBlock);
    return true;
  }

  /** Does something during which a chunk that is kept here is not given up. */
  keeping<T>({ holder }: Node, run: () => T): T {
    const { hostBlock } = holder;
    this.#recency.remove(hostBlock);
    const result = run();
    this.#recency.add(hostBlock);
    return result;
  }

  /** It was used. */
  touch({ holder }: Node): void {
    if (this.#recency.remove(holder.hostBlock)) this.#recency.add(holder.hostBlock);
  }

  /** Gives up a chunk's host block, if it has one. */
  drop({ holder }: Node): void {
    const { hostBlock } = holder;
    if (hostBlock < 0) return;
    holder.hostBlock = -1;
    this.#recency.remove(hostBlock);
    this.#nodes[hostBlock] = undefined;
    this.#free.push(hostBlock);
  }

  clear(): void {
    for (const node of [...this.#nodes]) {
      if (!node) continue;
      this.drop(node);
      this.#onLost(node);
    }
  }
}

function isBehind(node: Node, other: Node): boolean {
  for (let at: Node | undefined = node; at; at = at.parent) if (at === other) return true;
  return false;
}

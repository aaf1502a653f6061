import { assert, definite } from '../../base/errors.ts';
import type { KvPoolSize } from '../device.ts';
import { type KvOperations, kvOperation } from '../step.ts';

/** What a block "holds": for each position a hash of all tokens up to it, in place of keys and values. */
interface HistoryBlock {
  hashes: Uint32Array;
  length: number;
}

const nothing = (): HistoryBlock => ({ hashes: new Uint32Array(0), length: 0 });

/** The null device's KV cache: a wrong block, copy or position changes what it answers, and a gap is refused. */
export class KvHistory {
  readonly #size: KvPoolSize;
  readonly #blocks: HistoryBlock[];
  readonly #hostBlocks: HistoryBlock[];

  constructor(size: KvPoolSize) {
    this.#size = size;
    this.#blocks = Array.from({ length: size.blocks }, nothing);
    this.#hostBlocks = Array.from({ length: size.hostBlocks }, nothing);
  }

  operate({ count, kinds, from, to, positions }: KvOperations): void {
    for (let index = 0; index < count; index++) {
      const source = from[index] as number;
      const target = to[index] as number;
      const kind = kinds[index];
      if (kind === kvOperation.release) this.#blocks[source] = nothing();
      else if (kind === kvOperation.copy) this.#copy(source, target, positions[index] as number);
      else if (kind === kvOperation.toHost) this.#hostBlocks[target] = cloned(this.#block(source));
      else this.#blocks[target] = cloned(definite(this.#hostBlocks[source], `host block ${source}`));
    }
  }

  /** The hash at `position` of a sequence. */
  at(blocks: Int32Array, firstBlock: number, position: number): number {
    const { blockPositions } = this.#size;
    const index = Math.floor(position / blockPositions);
    const block = this.#block(blocks[firstBlock + index] as number);
    const place = position - index * blockPositions;
    assert(place < block.length, `block ${blocks[firstBlock + index]} has a gap at ${place}`);
    return block.hashes[place] as number;
  }

  write(blocks: Int32Array, firstBlock: number, position: number, hash: number): void {
    const { blockPositions } = this.#size;
    const index = Math.floor(position / blockPositions);
    const block = this.#block(blocks[firstBlock + index] as number);
    const place = position - index * blockPositions;
    assert(place <= block.length, `block ${blocks[firstBlock + index]} has a gap at ${place}`);
    if (place === block.hashes.length) {
      const grown = new Uint32Array(Math.min(blockPositions, Math.max(32, place * 2)));
      grown.set(block.hashes);
      block.hashes = grown;
    }
    block.hashes[place] = hash;
    block.length = place + 1;
  }

  #copy(from: number, to: number, length: number): void {
    const source = this.#block(from);
    assert(
      length <= source.length,
      `block ${from} holds ${source.length} positions, not the ${length} to copy`,
    );
    this.#blocks[to] = { hashes: source.hashes.slice(0, length), length };
  }

  #block(number: number): HistoryBlock {
    return definite(this.#blocks[number], `block ${number}`);
  }
}

function cloned({ hashes, length }: HistoryBlock): HistoryBlock {
  return { hashes: hashes.slice(), length };
}

import { assert, definite } from '../../base/errors.ts';
import type { KvOperations } from '../../device/step.ts';
import { BlockPool } from './block-pool.ts';
import { type BlockHolder, HostTier } from './host-tier.ts';
import type { KvCache, KvChanges, KvDemand, KvPlace, KvUsage, TokenSource } from './kv-cache.ts';
import { OperationList } from './operation-list.ts';
import { PrefixIndex, type PrefixNode } from './prefix-index.ts';
import { type Retention, type RetentionLevel, retentionAt } from './retention.ts';

type Node = PrefixNode<BlockHolder>;

/** Sizes of the cache. */
export interface BlockCacheOptions {
  blocks: number;
  blockPositions: number;
  bytesPerPosition: number;
  /** Whether finished prompts are found by others. */
  prefixReuse: boolean;
  /** Blocks that finished sequences may keep while nobody else needs them. */
  retainedBlocksMax: number;
  /** Blocks in host memory that evicted ones move to; 0 for none. */
  hostBlocks: number;
  nowMs: () => number;
}

/** A sequence's blocks. */
class BlockPlace implements KvPlace {
  cached = 0;
  blocks: Int32Array;
  count = 0;
  /** Blocks that it may still take. */
  promised = 0;
  /** Positions whose tokens are known and computed. */
  committed = 0;
  /** The last committed full chunk; undefined before the first, and once a chunk could not be stored. */
  node: Node | undefined;
  /** Full chunks up to `node`. */
  indexed = 0;
  isIndexable: boolean;
  readonly prefixKey: string;
  readonly #promptLength: number;
  readonly #retention: Retention | undefined;

  constructor(demand: KvDemand, capacity: number, isIndexable: boolean) {
    this.prefixKey = demand.prefixKey;
    this.#promptLength = demand.promptLength;
    this.#retention = demand.retention;
    this.blocks = new Int32Array(capacity);
    this.isIndexable = isIndexable;
  }

  /** What was said about the block that holds a position at its start; as TensorRT-LLM has it, that decides for all of it. */
  levelAt(position: number): RetentionLevel | undefined {
    return this.#retention && retentionAt(this.#retention, position, this.#promptLength);
  }

  add(block: number): void {
    if (this.count === this.blocks.length) {
      const grown = new Int32Array(Math.max(8, this.count * 2));
      grown.set(this.blocks);
      this.blocks = grown;
    }
    this.blocks[this.count++] = block;
  }
}

/** What of a demand is in the cache. */
interface Found {
  /** Full chunks, in order. */
  nodes: Node[];
  /** What of the next chunk another block has. */
  partial: { node: Node; length: number } | undefined;
}

/**
 * The KV cache as equal blocks with tables: prefixes are shared by reference, so that a thousand sequences over one system prompt hold it once.
 * What finished sequences leave is retained, least recently used and lowest priority first to go, to a tier in host memory if there is one.
 */
export class BlockKvCache implements KvCache {
  readonly #options: BlockCacheOptions;
  readonly #pool: BlockPool;
  readonly #index: PrefixIndex<BlockHolder>;
  /** By block: the chunk it holds for everybody, if any. */
  readonly #nodes: (Node | undefined)[];
  readonly #host: HostTier;
  readonly #operations = new OperationList();
  #promised = 0;

  constructor(options: BlockCacheOptions) {
    this.#options = options;
    this.#pool = new BlockPool(options.blocks, options.nowMs);
    this.#index = new PrefixIndex(options.blockPositions);
    this.#nodes = new Array(options.blocks).fill(undefined);
    this.#host = new HostTier(options.hostBlocks, (node) => this.#forget(node));
  }

  get positionsMax(): number {
    return this.#options.blocks * this.#options.blockPositions;
  }

  get unitsFree(): number {
    return this.#options.blocks - this.#pool.heldCount - this.#promised;
  }

  get chunkPositions(): number {
    return this.#options.blockPositions;
  }

  get hasOperations(): boolean {
    return !this.#operations.isEmpty;
  }

  takeOperations(): KvOperations {
    return this.#operations.take();
  }

  takeChanges(): KvChanges | undefined {
    return this.#index.takeChanges();
  }

  get knownPrefixes(): Iterable<number> {
    return this.#index.hashes;
  }

  cost(demand: KvDemand, positions: number): number {
    const blocks = this.#blocksFor(positions);
    if (demand.fork) return blocks - Math.floor(demand.fork.length / this.#options.blockPositions);
    let shared = 0;
    for (const { holder } of this.#find(demand).nodes) {
      if (holder.block >= 0 && this.#pool.references(holder.block) > 0) shared++;
    }
    return blocks - shared;
  }

  growth(place: KvPlace, positions: number): number {
    const own = place as BlockPlace;
    return Math.max(0, this.#blocksFor(positions) - own.count - own.promised);
  }

  held(place: KvPlace): number {
    const own = place as BlockPlace;
    let held = own.promised;
    for (let index = 0; index < own.count; index++) {
      if (this.#pool.references(own.blocks[index] as number) === 1) held++;
    }
    return held;
  }

  reserve(demand: KvDemand, positions: number): KvPlace {
    const blocks = this.#blocksFor(positions);
    const place = new BlockPlace(demand, blocks, this.#options.prefixReuse);
    if (demand.fork) this.#shareFork(place, demand.fork.place as BlockPlace, demand.fork.length);
    else this.#shareFound(place, this.#find(demand));
    const promised = Math.max(0, blocks - place.count);
    assert(promised <= this.unitsFree, `no room for ${positions} positions`);
    place.promised = promised;
    this.#promised += promised;
    return place;
  }

  append(place: KvPlace, positions: number): boolean {
    const more = this.growth(place, positions);
    if (more > this.unitsFree) return false;
    (place as BlockPlace).promised += more;
    this.#promised += more;
    return true;
  }

  writeBlocks(place: KvPlace, kvLength: number, blocks: Int32Array, at: number): number {
    const own = place as BlockPlace;
    const count = this.#blocksFor(kvLength);
    while (own.count < count) {
      assert(own.promised > 0, 'a sequence takes no more blocks than it was promised');
      own.promised--;
      this.#promised--;
      own.add(this.#take());
    }
    const source = own.blocks;
    for (let i = 0; i < count; i++) blocks[at + i] = source[i] as number;
    return count;
  }

  commit(place: KvPlace, tokens: TokenSource, length: number): void {
    const own = place as BlockPlace;
    own.committed = length;
    const { blockPositions } = this.#options;
    while (own.isIndexable && (own.indexed + 1) * blockPositions <= length) this.#indexNext(own, tokens);
  }

  release(place: KvPlace, tokens: TokenSource, retain: boolean): void {
    const own = place as BlockPlace;
    const { blockPositions } = this.#options;
    this.#promised -= own.promised;
    own.promised = 0;
    const rest = own.committed - own.indexed * blockPositions;
    const tail = own.blocks[own.indexed];
    if (retain && own.isIndexable && rest > 0 && rest < blockPositions && own.indexed < own.count) {
      this.#indexTail(own, tokens, tail as number, rest);
    }
    // From the end, so that the blocks of a prefix outlive what follows it.
    for (let index = own.count - 1; index >= 0; index--) {
      const block = own.blocks[index] as number;
      const isKept = this.#nodes[block] !== undefined && (retain || this.#pool.references(block) > 1);
      if (!isKept && this.#pool.references(block) === 1) this.#unindex(block);
      this.#pool.drop(block, isKept, isKept ? own.levelAt(index * blockPositions) : undefined);
    }
    own.count = 0;
    while (this.#pool.retainedCount > this.#options.retainedBlocksMax) this.#evict();
  }

  releaseRetained(): void {
    this.#host.clear();
    while (this.#pool.evictable >= 0) this.#discard(this.#pool.evictable);
  }

  usage(): KvUsage {
    const { blocks, blockPositions, bytesPerPosition, hostBlocks } = this.#options;
    const bytes = blockPositions * bytesPerPosition;
    const reserved = this.#pool.heldCount + this.#promised;
    return {
      bytesReserved: reserved * bytes,
      // What was promised to sequences in flight will be taken from these.
      bytesRetained: Math.min(this.#pool.retainedCount, blocks - reserved) * bytes,
      bytesMax: blocks * bytes,
      hostBytesUsed: this.#host.used * bytes,
      hostBytesMax: hostBlocks * bytes,
    };
  }

  /** What of a demand's tokens is in the cache, on the device or on the host. */
  #find({ prefixKey, tokens, reusableMax }: KvDemand): Found {
    const { blockPositions, prefixReuse } = this.#options;
    const nodes: Node[] = [];
    if (!prefixReuse || reusableMax === 0) return { nodes, partial: undefined };
    let parent = this.#index.root(prefixKey);
    let from = 0;
    for (; from + blockPositions <= reusableMax; from += blockPositions) {
      const node = this.#index.find(parent, tokens, from);
      if (!node) break;
      nodes.push(node);
      parent = node;
    }
    const lengthMax = Math.min(blockPositions, reusableMax - from);
    const partial = lengthMax > 0 ? this.#index.longestPartial(parent, tokens, from, lengthMax) : undefined;
    return { nodes, partial };
  }

  #shareFound(place: BlockPlace, { nodes, partial }: Found): void {
    // Held before anything is taken, since taking may evict; by number, since a chunk whose prefix is given up forgets its block.
    const held = nodes.map(({ holder }) => holder.block);
    for (const block of held) if (block >= 0) this.#pool.hold(block);
    const source = this.#holdPartial(nodes, partial);
    for (const [index, node] of nodes.entries()) {
      if (node.holder.block < 0 && node.holder.hostBlock >= 0) this.#fetch(node);
      if (node.holder.block < 0) {
        // Its host block was needed for what taking the others evicted: the rest cannot be reached.
        for (const block of held.slice(index)) if (block >= 0) this.#letGo(block);
        break;
      }
      place.add(node.holder.block);
      place.node = node;
      place.indexed++;
    }
    place.cached = place.indexed * this.#options.blockPositions;
    if (source && place.indexed === nodes.length) this.#copyPartial(place, source.block, source.length);
    if (source) this.#letGo(source.block);
    place.committed = place.cached;
  }

  /** Keeps a partial match's block from being evicted, unless the memory is so tight that it must be. */
  #holdPartial(
    nodes: readonly Node[],
    partial: Found['partial'],
  ): { block: number; length: number } | undefined {
    if (!partial) return undefined;
    const { block } = partial.node.holder;
    if (block < 0) return undefined;
    const fetched = nodes.reduce((count, { holder }) => count + (holder.block < 0 ? 1 : 0), 0);
    const isRetained = this.#pool.references(block) === 0;
    const takeable = this.#options.blocks - this.#pool.heldCount - (isRetained ? 1 : 0);
    if (takeable < fetched + 1) return undefined;
    this.#pool.hold(block);
    return { block, length: partial.length };
  }

  /** Holds a block no longer; it stays for others if it still holds something known. */
  #letGo(block: number): void {
    this.#pool.drop(block, this.#nodes[block] !== undefined);
  }

  /** Copies the beginning of another's block into one of its own. */
  #copyPartial(place: BlockPlace, source: number, length: number): void {
    const block = this.#take();
    this.#operations.copy(source, block, length);
    place.add(block);
    place.cached += length;
  }

  #shareFork(place: BlockPlace, source: BlockPlace, length: number): void {
    const { blockPositions } = this.#options;
    const full = Math.floor(length / blockPositions);
    for (let index = 0; index < full; index++) {
      const block = source.blocks[index] as number;
      this.#pool.hold(block);
      place.add(block);
    }
    // Chunks that the source has not indexed yet are the fork's to index too, when it commits.
    if (source.indexed <= full) {
      place.node = source.node;
      place.indexed = source.indexed;
    } else {
      place.indexed = full;
      place.node = full > 0 ? this.#nodes[source.blocks[full - 1] as number] : undefined;
      place.isIndexable &&= full === 0 || place.node !== undefined;
    }
    place.isIndexable &&= source.isIndexable;
    if (length > full * blockPositions) {
      const block = this.#take();
      this.#operations.copy(source.blocks[full] as number, block, length - full * blockPositions);
      place.add(block);
    }
    place.cached = length;
    place.committed = length;
  }

  /** Brings a chunk back from the host, into a block with one holder. */
  #fetch(node: Node): void {
    const block = this.#host.keeping(node, () => this.#take());
    this.#operations.fromHost(node.holder.hostBlock, block);
    node.holder.block = block;
    this.#nodes[block] = node;
  }

  /** Stores the next full chunk of a sequence; if another has stored the same meanwhile, that one's block is used from now on. */
  #indexNext(place: BlockPlace, tokens: TokenSource): void {
    const { blockPositions } = this.#options;
    const parent = place.node ?? this.#index.root(place.prefixKey);
    const from = place.indexed * blockPositions;
    const own = place.blocks[place.indexed] as number;
    let node = this.#index.find(parent, tokens, from);
    if (node && node.holder.block >= 0 && node.holder.block !== own) {
      this.#pool.hold(node.holder.block);
      this.#pool.drop(own, false);
      place.blocks[place.indexed] = node.holder.block;
    } else if (node) this.#setBlock(node, own);
    else {
      node = this.#index.add(parent, tokens, from, { block: -1, hostBlock: -1 });
      if (node) this.#setBlock(node, own);
    }
    if (node) {
      place.node = node;
      place.indexed++;
    } else place.isIndexable = false;
  }

  /** What a sequence wrote of its last block may serve others as far as it goes. */
  #indexTail(place: BlockPlace, tokens: TokenSource, block: number, length: number): void {
    if (this.#nodes[block] !== undefined || this.#pool.references(block) > 1) return;
    const parent = place.node ?? this.#index.root(place.prefixKey);
    const from = place.indexed * this.#options.blockPositions;
    const known = this.#index.longestPartial(parent, tokens, from, length);
    if (known?.length === length) return;
    const node = this.#index.addPartial(parent, tokens, from, length, { block: -1, hostBlock: -1 });
    this.#setBlock(node, block);
  }

  #setBlock(node: Node, block: number): void {
    node.holder.block = block;
    this.#nodes[block] = node;
  }

  /** A free block with one holder; evicts if it must. The caller made sure that there is one. */
  #take(): number {
    let block = this.#pool.take();
    if (block < 0) {
      this.#evict();
      block = this.#pool.take();
    }
    assert(block >= 0, 'a block is free, as was promised');
    return block;
  }

  /** Gives up the retained block that was used least recently, to the host if there is room. */
  #evict(): void {
    const block = this.#pool.evictable;
    assert(block >= 0, 'a retained block to evict');
    const node = definite(this.#nodes[block], 'a retained block holds a chunk');
    const isFull = node.tokens.length === this.#options.blockPositions;
    if (!isFull || !this.#host.keep(node, this.#operations)) this.#discard(block);
    else {
      node.holder.block = -1;
      this.#nodes[block] = undefined;
      this.#pool.evict(block);
    }
  }

  /** Gives up a retained block and what was stored behind its prefix, which can no longer be found. */
  #discard(block: number): void {
    this.#unindex(block);
    this.#pool.evict(block);
  }

  #unindex(block: number): void {
    const node = this.#nodes[block];
    if (!node) return;
    this.#nodes[block] = undefined;
    node.holder.block = -1;
    this.#host.drop(node);
    this.#forget(node);
  }

  /** Takes a chunk that lies nowhere any more out of the index, with all behind it. */
  #forget(node: Node): void {
    if (node.holder.block >= 0) return;
    for (const child of [...node.children]) {
      const { block } = child.holder;
      this.#host.drop(child);
      if (block < 0) this.#forget(child);
      else {
        const isRetained = this.#pool.references(block) === 0;
        this.#unindex(block);
        if (isRetained) this.#pool.evict(block);
      }
    }
    this.#index.remove(node);
  }

  #blocksFor(positions: number): number {
    return Math.ceil(positions / this.#options.blockPositions);
  }
}

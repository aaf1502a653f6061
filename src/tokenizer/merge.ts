import type { MergeTable } from './merge-table.ts';

/** Up to this many symbols the scan runs, which allocates nothing; beyond, its square would show. */
const scannedSymbolsMax = 64;

/** Merges symbols in place until no pair merges: lowest rank first, then leftmost. Returns how many are left at the front. */
export function mergeSymbols(symbols: Int32Array, count: number, table: MergeTable): number {
  return count <= scannedSymbolsMax ? mergeByScan(symbols, count, table) : mergeByHeap(symbols, count, table);
}

/** {@link mergeSymbols} in O(n²) without allocation. */
export function mergeByScan(symbols: Int32Array, count: number, table: MergeTable): number {
  let left = count;
  while (left > 1) {
    let best = -1;
    let bestRank = Number.POSITIVE_INFINITY;
    let bestEntry = -1;
    for (let i = 0; i + 1 < left; i++) {
      const entry = table.find(symbols[i] as number, symbols[i + 1] as number);
      if (entry >= 0 && table.rankAt(entry) < bestRank) {
        best = i;
        bestRank = table.rankAt(entry);
        bestEntry = entry;
      }
    }
    if (best < 0) break;
    symbols[best] = table.resultAt(bestEntry);
    symbols.copyWithin(best + 1, best + 2, left);
    left--;
  }
  return left;
}

/** {@link mergeSymbols} in O(n log n): a heap of (rank, position) over a linked list; stale entries are dropped when popped. */
export function mergeByHeap(symbols: Int32Array, count: number, table: MergeTable): number {
  const next = new Int32Array(count);
  const previous = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    next[i] = i + 1;
    previous[i] = i - 1;
  }
  // Each merge adds at most two pairs to the n − 1 of the start.
  const heap = new KeyHeap(3 * count);
  const offer = (position: number): void => {
    const after = next[position] as number;
    if (after >= count) return;
    const entry = table.find(symbols[position] as number, symbols[after] as number);
    // Rank < 2^23 and position < 2^24 (limits above), so the key is an exact float64.
    if (entry >= 0) heap.push(table.rankAt(entry) * count + position);
  };
  for (let i = 0; i + 1 < count; i++) offer(i);
  while (heap.size > 0) {
    const key = heap.pop();
    const position = key % count;
    const after = next[position] as number;
    if (symbols[position] === -1 || after >= count) continue;
    const entry = table.find(symbols[position] as number, symbols[after] as number);
    if (entry < 0 || table.rankAt(entry) !== (key - position) / count) continue;
    symbols[position] = table.resultAt(entry);
    symbols[after] = -1;
    const follower = next[after] as number;
    next[position] = follower;
    if (follower < count) previous[follower] = position;
    offer(position);
    const before = previous[position] as number;
    if (before >= 0) offer(before);
  }
  let left = 0;
  for (let i = 0; i < count; i = next[i] as number) symbols[left++] = symbols[i] as number;
  return left;
}

/** A binary min-heap of float64 keys with a fixed capacity. */
class KeyHeap {
  readonly #keys: Float64Array;
  size = 0;

  constructor(capacity: number) {
    this.#keys = new Float64Array(capacity);
  }

  push(key: number): void {
    const keys = this.#keys;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((keys[parent] as number) <= key) break;
      keys[at] = keys[parent] as number;
      at = parent;
    }
    keys[at] = key;
  }

  pop(): number {
    const keys = this.#keys;
    const top = keys[0] as number;
    const last = keys[--this.size] as number;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.size) break;
      if (child + 1 < this.size && (keys[child + 1] as number) < (keys[child] as number)) child++;
      if ((keys[child] as number) >= last) break;
      keys[at] = keys[child] as number;
      at = child;
    }
    keys[at] = last;
    return top;
  }
}

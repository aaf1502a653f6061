import { RecencyList } from './recency-list.ts';
import { type RetentionLevel, retentionPriorityDefault, retentionPriorityMax } from './retention.ts';

/** What is kept for reuse though nobody holds it, in the order in which it is given up: lowest priority first, of one priority the least recently used. */
export class RetainedList {
  readonly #items: RecencyList;
  readonly #nowMs: () => number;
  /** What somebody asked to keep, and until when; it holds while the item is used again and again. */
  readonly #levels = new Map<number, { priority: number; untilMs: number }>();
  /** No level ends before. */
  #nextEndMs = Number.POSITIVE_INFINITY;

  /** @param count items are numbered 0 to count − 1 */
  constructor(count: number, nowMs: () => number) {
    this.#items = new RecencyList(count, retentionPriorityMax + 1);
    this.#nowMs = nowMs;
  }

  get size(): number {
    return this.#items.size;
  }

  /** Says how dear an item is from now on, whether it is in the list or not. */
  setLevel(item: number, { priority, durationMs }: RetentionLevel): void {
    const untilMs = durationMs === undefined ? Number.POSITIVE_INFINITY : this.#nowMs() + durationMs;
    this.#levels.set(item, { priority, untilMs });
    this.#nextEndMs = Math.min(this.#nextEndMs, untilMs);
    if (this.#items.remove(item)) this.#items.add(item, priority);
  }

  /** The item is to hold something else. */
  clearLevel(item: number): void {
    if (this.#levels.size > 0) this.#levels.delete(item);
  }

  add(item: number): void {
    this.#items.add(item, this.#levels.get(item)?.priority ?? retentionPriorityDefault);
  }

  remove(item: number): boolean {
    return this.#items.remove(item);
  }

  /** What to give up next; −1 for nothing. */
  get next(): number {
    if (this.#nextEndMs !== Number.POSITIVE_INFINITY) this.#endLevels();
    return this.#items.oldest;
  }

  /** What nobody wants to keep any longer counts as anybody's. */
  #endLevels(): void {
    const nowMs = this.#nowMs();
    if (nowMs < this.#nextEndMs) return;
    this.#nextEndMs = Number.POSITIVE_INFINITY;
    for (const [item, { untilMs }] of [...this.#levels]) {
      if (untilMs > nowMs) {
        this.#nextEndMs = Math.min(this.#nextEndMs, untilMs);
        continue;
      }
      this.#levels.delete(item);
      if (this.#items.remove(item)) this.#items.add(item, retentionPriorityDefault);
    }
  }
}

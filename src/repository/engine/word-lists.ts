import { RepositoryError } from '../errors.ts';
import { type Tensor, tensorOf, valuesOf } from '../tensor.ts';

/**
 * TensorRT-LLM's word lists: INT32 [rows, 2, L]; of each row first all ids one after the other, 0-padded, then the cumulative end of
 * each word, −1-padded. No words at all: L = 0.
 */
export function encodeWordLists(name: string, rows: readonly (readonly (readonly number[])[])[]): Tensor {
  const length = Math.max(0, ...rows.map((words) => Math.max(count(words), words.length)));
  const values = new Int32Array(rows.length * 2 * length);
  rows.forEach((words, row) => {
    const start = row * 2 * length;
    values.fill(-1, start + length, start + 2 * length);
    let at = 0;
    words.forEach((ids, index) => {
      values.set(ids, start + at);
      at += ids.length;
      values[start + length + index] = at;
    });
  });
  return tensorOf(name, 'INT32', [rows.length, 2, length], values);
}

function count(words: readonly (readonly number[])[]): number {
  return words.reduce((sum, ids) => sum + ids.length, 0);
}

/**
 * The words of one row.
 * @throws RepositoryError INVALID_ARGUMENT for an offset that is out of bounds or not increasing
 */
export function wordsOfRow(tensor: Tensor, row: number): number[][] {
  const length = tensor.shape[2] ?? 0;
  const values = valuesOf(tensor, 'INT32');
  const ids = values.subarray(row * 2 * length, row * 2 * length + length);
  const ends = values.subarray(row * 2 * length + length, (row + 1) * 2 * length);
  const words: number[][] = [];
  let start = 0;
  for (const end of ends) {
    if (end < 0) break;
    if (end <= start || end > length) {
      const problem = `has the offset ${end} after ${start}; offsets must increase up to ${length}`;
      throw new RepositoryError('INVALID_ARGUMENT', `${tensor.name} ${problem}`);
    }
    words.push([...ids.subarray(start, end)]);
    start = end;
  }
  return words;
}

/** Finds the end of the first of several id sequences in ids that arrive one by one. */
export class StopSequences {
  readonly #words: readonly (readonly number[])[];
  readonly #longest: number;
  readonly #tail: number[] = [];

  constructor(words: readonly (readonly number[])[]) {
    this.#words = words;
    this.#longest = Math.max(0, ...words.map((word) => word.length));
  }

  /** @returns whether a word ends with this id */
  push(id: number): boolean {
    if (this.#longest === 0) return false;
    this.#tail.push(id);
    if (this.#tail.length > this.#longest) this.#tail.shift();
    return this.#words.some((word) => {
      const from = this.#tail.length - word.length;
      return from >= 0 && word.every((value, index) => this.#tail[from + index] === value);
    });
  }
}

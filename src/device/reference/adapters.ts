import type { AdapterChange, AdapterPart } from '../adapters.ts';
import { baseModel, type StepBatch } from '../step.ts';

/** A logical linear inside an op `linear`. */
interface LinearPart {
  name: string;
  rows: number;
}

type Parts = ReadonlyMap<string, AdapterPart>;

/** Adapters on the reference device, by slot: the definition of what they add. */
export class ReferenceAdapters {
  readonly #slots = new Map<number, Parts>();

  has(slot: number): boolean {
    return this.#slots.has(slot);
  }

  change(changes: readonly AdapterChange[]): void {
    for (const { slot, tensors } of changes) {
      if (tensors) this.#slots.set(slot, new Map(tensors.parts.map((part) => [part.name, part])));
      else this.#slots.delete(slot);
    }
  }

  /**
   * What the adapters of a step's rows do.
   * @param logitRows of the output rows, those that get logits, where that is not all of them
   */
  rowsOf({ segments, outputs, tokens }: StepBatch, logitRows?: Int32Array): RowAdapters {
    const all: (Parts | undefined)[] = [];
    for (let index = 0; index < segments.count; index++) {
      const slot = segments.adapter?.[index] ?? baseModel;
      for (let row = 0; row < (segments.rows[index] as number); row++) all.push(this.#slots.get(slot));
    }
    const wanted = Array.from(outputs.rows.subarray(0, outputs.count), (row) => all[row]);
    const logits = logitRows && Array.from(logitRows, (row) => wanted[row]);
    return new RowAdapters(tokens.length, all, wanted, logits);
  }
}

/** The adapter of each row of a step: of all rows, of those whose outputs are wanted, and of those that get logits. */
export class RowAdapters {
  readonly #tokens: number;
  readonly #all: readonly (Parts | undefined)[];
  readonly #wanted: readonly (Parts | undefined)[];
  readonly #logits: readonly (Parts | undefined)[];

  constructor(
    tokens: number,
    all: readonly (Parts | undefined)[],
    wanted: readonly (Parts | undefined)[],
    logits = wanted,
  ) {
    this.#tokens = tokens;
    this.#all = all;
    this.#wanted = wanted;
    this.#logits = logits;
  }

  /**
   * Adds B (A x) to each row of a linear whose adapter changes it.
   * @param y [rows, sum of the parts' rows]
   * @param x [rows, inputs]
   */
  addTo(y: Float32Array, x: Float32Array, linears: readonly LinearPart[]): void {
    const width = linears.reduce((sum, { rows }) => sum + rows, 0);
    const rows = y.length / width;
    const inputs = x.length / rows;
    // As many wanted rows as rows are all of them, in order.
    const some = rows === this.#wanted.length ? this.#wanted : this.#logits;
    const adapters = rows === this.#tokens ? this.#all : some;
    adapters.forEach((parts, row) => {
      let column = row * width;
      for (const { name, rows: outputs } of linears) {
        const part = parts?.get(name);
        if (part) addPart(part, x.subarray(row * inputs, (row + 1) * inputs), y, column);
        column += outputs;
      }
    });
  }
}

function addPart({ rank, inputs, outputs, a, b }: AdapterPart, x: Float32Array, y: Float32Array, at: number) {
  const low = new Float64Array(rank);
  for (let r = 0; r < rank; r++) {
    let sum = 0;
    for (let i = 0; i < inputs; i++) sum += (a[r * inputs + i] as number) * (x[i] as number);
    low[r] = sum;
  }
  for (let o = 0; o < outputs; o++) {
    let sum = y[at + o] as number;
    for (let r = 0; r < rank; r++) sum += (b[o * rank + r] as number) * (low[r] as number);
    y[at + o] = sum;
  }
}

/**
 * Weights of one step's time against those measured before, if it was shorter and if it was longer: what is kept is near the least that steps
 * take, since on a busy machine some take ten times as long, and that must not look like the cost of a draft.
 */
const shorterWeight = 0.3;
const longerWeight = 0.03;

/** Sizes of steps whose times are remembered. */
const sizesMax = 512;

/** What a row more costs where nothing was measured yet, in steps of one row: about what CPUs show. */
const rowCostPrior = 0.2;

/** Sequences of one size; more rows than that a step cannot have. */
const keyBase = 65_536;

/** How long steps of each size take: measured where they ran, between the nearest sizes elsewhere. */
export class StepCosts {
  readonly #bySize = new Map<number, number>();
  /** By total rows, whatever the sequences. */
  readonly #byRows = new Map<number, number>();
  readonly #seen = new Set<number>();

  /** A step of generating sequences took `ns`. */
  note(sequences: number, rows: number, ns: number): void {
    const key = sequences * keyBase + rows;
    // The first of a size may include preparing the device for it.
    if (!this.#seen.has(key)) {
      if (this.#seen.size >= sizesMax) this.#clear();
      this.#seen.add(key);
      return;
    }
    if (ns <= 0) return;
    blend(this.#bySize, key, ns);
    blend(this.#byRows, rows, ns);
  }

  /** Whether anything was measured that tells what such a step takes. */
  isKnown(sequences: number, rows: number): boolean {
    return this.#measured(sequences, rows) !== undefined;
  }

  /** What a step takes, in steps of the same sequences with one row each. */
  relative(sequences: number, rows: number): number {
    const plain = this.#measured(sequences, sequences);
    const step = this.#measured(sequences, rows);
    if (plain !== undefined && step !== undefined) return Math.max(1, step / plain);
    return (1 + rowCostPrior * (rows - 1)) / (1 + rowCostPrior * (sequences - 1));
  }

  /** A step of one row for each sequence, in nanoseconds; undefined while unknown. */
  plainNs(sequences: number): number | undefined {
    return this.#measured(sequences, sequences);
  }

  #measured(sequences: number, rows: number): number | undefined {
    return this.#bySize.get(sequences * keyBase + rows) ?? this.#between(rows);
  }

  #between(rows: number): number | undefined {
    let below: [rows: number, ns: number] | undefined;
    let above: [rows: number, ns: number] | undefined;
    for (const entry of this.#byRows) {
      if (entry[0] <= rows && (!below || entry[0] > below[0])) below = entry;
      if (entry[0] >= rows && (!above || entry[0] < above[0])) above = entry;
    }
    if (!below || !above) return undefined;
    if (below[0] === above[0]) return below[1];
    return below[1] + ((above[1] - below[1]) * (rows - below[0])) / (above[0] - below[0]);
  }

  #clear(): void {
    this.#bySize.clear();
    this.#byRows.clear();
    this.#seen.clear();
  }
}

/** Moves what is known towards a new measurement. */
export function blend(costs: Map<number, number>, key: number, ns: number): void {
  const known = costs.get(key);
  const weight = known !== undefined && ns < known ? shorterWeight : longerWeight;
  costs.set(key, known === undefined ? ns : known + (ns - known) * weight);
}

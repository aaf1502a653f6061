/** Rows of values that a request asked for: logits, hidden states. */
export interface OutputRows {
  rows: number;
  /** Values of a row. */
  width: number;
  /** [rows, width]. */
  values: Float32Array;
}

/** Where a reader in another process finds {@link OutputRows}: little-endian float32 in a file. */
export interface RowsReference {
  rows: number;
  width: number;
  path: string;
  /** Bytes before the first value. */
  offset: number;
}

export type OutputName = 'contextLogits' | 'generationLogits' | 'contextHidden';

/** What an event brings of a request's rows. On their way between processes they are references. */
export type Outputs = Partial<Record<OutputName, OutputRows | RowsReference>>;

/** The rows themselves, as every listener gets them. @returns undefined where there are none of that name */
export function outputRows(outputs: Outputs | undefined, name: OutputName): OutputRows | undefined {
  const rows = outputs?.[name];
  return rows && 'values' in rows ? rows : undefined;
}

/** What several events brought, as one event would have: rows of the same name follow each other. */
export function appendedOutputs(before: Outputs | undefined, next: Outputs): Outputs {
  const all: Outputs = { ...before };
  for (const name of Object.keys(next) as OutputName[]) {
    const first = outputRows(before, name);
    const second = outputRows(next, name);
    if (!first || !second) all[name] = next[name];
    else {
      const values = new Float32Array(first.values.length + second.values.length);
      values.set(first.values);
      values.set(second.values, first.values.length);
      all[name] = { rows: first.rows + second.rows, width: first.width, values };
    }
  }
  return all;
}

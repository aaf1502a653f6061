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

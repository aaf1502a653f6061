import { LoadError } from '../errors.ts';
import { jsonLines, readDatasetText } from './dataset.ts';

/** One recorded arrival. */
export interface TraceRow {
  /** Milliseconds; only differences count. */
  atMs: number;
  inputTokens?: number;
  outputTokens?: number;
}

/**
 * A recorded trace of arrivals, ascending: JSON lines with `timestamp` (milliseconds), `input_length`, `output_length` (Mooncake's form),
 * or a CSV whose header names `Timestamp` (seconds), `Request tokens`, `Response tokens` (BurstGPT's form).
 * @throws LoadError LOAD_DATASET_UNREADABLE, LOAD_DATASET_INVALID
 */
export function readArrivalTrace(path: string): TraceRow[] {
  const text = readDatasetText(path);
  const rows = text.trimStart().startsWith('{') ? fromJson(text, path) : fromCsv(text, path);
  if (rows.length === 0) throw new LoadError('LOAD_DATASET_INVALID', `${path} has no arrival in it`);
  return rows.sort((a, b) => a.atMs - b.atMs);
}

function fromJson(text: string, path: string): TraceRow[] {
  return jsonLines(text, path).map((value, index) => {
    const fields = value as Record<string, unknown>;
    return rowOf(
      fields.timestamp,
      fields.input_length,
      fields.output_length,
      1,
      `${path}, line ${index + 1}`,
    );
  });
}

function fromCsv(text: string, path: string): TraceRow[] {
  const [header = '', ...lines] = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  const names = header.split(',').map((name) => name.trim().toLowerCase());
  const [at, input, output] = ['timestamp', 'request tokens', 'response tokens'].map((name) =>
    names.indexOf(name),
  );
  if (at === undefined || at < 0)
    throw new LoadError(
      'LOAD_DATASET_INVALID',
      `${path} has neither JSON lines with "timestamp" nor a CSV header with Timestamp`,
    );
  return lines.map((line, index) => {
    const cells = line.split(',');
    const cell = (column: number | undefined): number | undefined =>
      column === undefined || column < 0 ? undefined : Number(cells[column]);
    return rowOf(cell(at), cell(input), cell(output), 1000, `${path}, line ${index + 2}`);
  });
}

function rowOf(at: unknown, input: unknown, output: unknown, msPerUnit: number, place: string): TraceRow {
  if (typeof at !== 'number' || !Number.isFinite(at))
    throw new LoadError('LOAD_DATASET_INVALID', `${place}: its timestamp is no number`);
  const length = (value: unknown): number | undefined =>
    typeof value === 'number' && value >= 1 ? Math.round(value) : undefined;
  return { atMs: at * msPerUnit, inputTokens: length(input), outputTokens: length(output) };
}

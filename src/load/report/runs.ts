import { readFileSync } from 'node:fs';
import { messageOf } from '../../base/errors.ts';
import { LoadError } from '../errors.ts';
import { type ResultFile, resultFormat } from './result-json.ts';

/** What a run is called in reports: its label, else its place and when it was. */
export function runName(run: ResultFile, index: number): string {
  return run.nereid.description.label || `run ${index + 1} (${String(run.date)})`;
}

/** Reads a result file. @throws LoadError LOAD_RESULT_INVALID */
export function readResult(path: string): ResultFile {
  let value: Partial<ResultFile>;
  try {
    value = JSON.parse(readFileSync(path, 'utf8')) as Partial<ResultFile>;
  } catch (cause) {
    throw new LoadError('LOAD_RESULT_INVALID', `${path} cannot be read as a result: ${messageOf(cause)}`, {
      cause,
    });
  }
  const format = value?.nereid?.format;
  if (format !== resultFormat)
    throw new LoadError(
      'LOAD_RESULT_INVALID',
      `${path} is no result of this version (${String(format)} instead of ${resultFormat}); make it with nereid load -o FILE`,
    );
  return value as ResultFile;
}

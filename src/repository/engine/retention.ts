import type { Retention, RetentionLevel } from '../../runtime/kv/retention.ts';
import { RepositoryError } from '../errors.ts';
import type { Inputs } from './inputs.ts';

/** To the prompt's end, and for ever. */
const unbounded = -1;

/**
 * A row's `retention_*` tensors; undefined where they say nothing.
 * @throws RepositoryError INVALID_ARGUMENT where a range lacks a start, an end or a priority
 */
export function retentionOfRow(inputs: Inputs, row: number): Retention | undefined {
  const column = (name: string) =>
    inputs.row(`retention_token_range_${name}`, 'INT32', row) ?? new Int32Array(0);
  const starts = column('starts');
  const ends = column('ends');
  const priorities = column('priorities');
  const durations = column('durations_ms');
  const counts = [ends.length, priorities.length, ...(durations.length > 0 ? [durations.length] : [])];
  if (counts.some((count) => count !== starts.length)) {
    throw new RepositoryError(
      'INVALID_ARGUMENT',
      `the tensors 'retention_token_range_starts', '_ends', '_priorities' and '_durations_ms' have ${[starts.length, ...counts].join(', ')} ` +
        'values; send as many of each (durations may be left out)',
    );
  }
  const ranges = Array.from(starts, (start, index) => {
    const end = ends[index] as number;
    return {
      start,
      ...(end !== unbounded && { end }),
      ...levelOf(priorities[index] as number, durations[index]),
    };
  });
  const priority = inputs.number('retention_decode_priority', row);
  const decode =
    priority === undefined
      ? undefined
      : levelOf(priority, inputs.number('retention_decode_duration_ms', row));
  if (ranges.length === 0 && !decode) return undefined;
  return { ranges, ...(decode && { decode }) };
}

function levelOf(priority: number, durationMs: number | undefined): RetentionLevel {
  return { priority, ...(durationMs !== undefined && durationMs !== unbounded && { durationMs }) };
}

import type { z } from 'zod';

/** What JSON calls zod's types. */
const typeNames: Readonly<Record<string, string>> = {
  string: 'a string',
  number: 'a number',
  int: 'an integer',
  boolean: 'true or false',
  array: 'an array',
  object: 'an object',
  record: 'an object',
};

/** How a bound counts what it bounds. */
const units: Readonly<Record<string, string>> = { array: ' entries', string: ' characters', set: ' entries' };

type RawIssue = z.core.$ZodRawIssue;

/**
 * What is wrong with a field, to be read after its name (`temperature: must be at most 2`), in place of the schema library's own
 * texts: they name its types and change with its releases. A schema's own message goes before this one.
 */
export function complaint(issue: RawIssue): string {
  if (issue.code === 'invalid_type') {
    if (issue.input === undefined) return 'is required';
    return `must be ${typeNames[issue.expected] ?? issue.expected}`;
  }
  if (issue.code === 'too_big') return bound('most', issue.maximum, issue.inclusive, issue.origin);
  if (issue.code === 'too_small') return bound('least', issue.minimum, issue.inclusive, issue.origin);
  if (issue.code === 'invalid_value') return `must be ${alternatives(issue.values)}`;
  if (issue.code === 'invalid_key') return issue.issues[0]?.message ?? 'has a key that is not taken';
  return issue.code === 'invalid_union' && issue.input === undefined
    ? 'is required'
    : 'has a value that is not taken';
}

function bound(
  direction: 'most' | 'least',
  limit: number | bigint,
  inclusive: boolean | undefined,
  origin: string,
): string {
  const unit = units[origin];
  if (unit) return `must have at ${direction} ${limit}${unit}`;
  if (inclusive !== false) return `must be at ${direction} ${limit}`;
  return `must be ${direction === 'most' ? 'under' : 'over'} ${limit}`;
}

function alternatives(values: readonly unknown[]): string {
  const names = values.map((value) => (typeof value === 'string' ? `'${value}'` : String(value)));
  return names.length === 1 ? names.join('') : `one of ${names.join(', ')}`;
}

import type { z } from 'zod';
import { ProtocolError } from './errors.ts';
import { boundNodes } from './json-body.ts';

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
function complaint(issue: RawIssue): string {
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

type Issue = z.core.$ZodIssue;

function isOfOtherType({ code }: Issue): boolean {
  return code === 'invalid_type' || code === 'invalid_union' || code === 'custom';
}

/** Inside a union, the alternative that the value came closest to: the one that failed deepest, then with the fewest complaints. */
function closest(issue: Issue): { issue: Issue; path: PropertyKey[] } {
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return { issue, path: issue.path };
  const candidates = issue.errors
    .filter((issues) => issues.length > 0)
    .map((issues) => ({ found: closest(issues[0] as Issue), complaints: issues.length }));
  const best = candidates.sort(
    (a, b) =>
      b.found.path.length - a.found.path.length ||
      // Of the right type, with another fault.
      Number(isOfOtherType(a.found.issue)) - Number(isOfOtherType(b.found.issue)) ||
      a.complaints - b.complaints,
  )[0];
  if (!best || (best.found.path.length === 0 && isOfOtherType(best.found.issue)))
    return { issue, path: issue.path };
  return { issue: best.found.issue, path: [...issue.path, ...best.found.path] };
}

/** `messages[0].content` */
function parameterName(path: readonly PropertyKey[]): string {
  let name = '';
  for (const part of path) {
    if (typeof part === 'number') name += `[${part}]`;
    else name += name === '' ? String(part) : `.${String(part)}`;
  }
  return name.slice(0, 200);
}

const typesOfParameter: Readonly<Record<string, string>> = {
  prompt:
    'a string, an array of strings, an array of token ids or an array of arrays of token ids, none of them empty',
  input:
    'a string, an array of strings, an array of token ids or an array of arrays of token ids, none of them empty (embeddings), or of items (responses)',
  system: 'a string or an array of text blocks',
  stop: 'a string or an array of strings',
  content: 'a string or an array of content parts',
};

/** The first complaint of a schema as an error that names the parameter as the client wrote it. */
function validationError(error: z.core.$ZodError): ProtocolError {
  const first = error.issues[0];
  if (!first) return new ProtocolError('PARAMETER_INVALID', 'the request is invalid');
  const { issue, path } = closest(first);
  const parameter = parameterName(path);
  if (path.length === 0)
    return new ProtocolError('PARAMETER_INVALID', `the body must be a JSON object (${issue.message})`);
  const expected = issue.code === 'invalid_union' ? typesOfParameter[String(path.at(-1))] : undefined;
  const message = `${parameter}: ${expected ? `must be ${expected}` : issue.message}`;
  const known =
    'params' in issue && (issue.params as { unsupported?: boolean } | undefined)?.unsupported === true;
  return new ProtocolError(known ? 'PARAMETER_UNSUPPORTED' : 'PARAMETER_INVALID', message, { parameter });
}

/**
 * A body that fits `schema`.
 * @param tokenFields top-level fields that hold token ids, which are not counted
 * @throws ProtocolError BODY_INVALID, PARAMETER_INVALID, PARAMETER_UNSUPPORTED
 */
export function parseRequest<T>(schema: z.ZodType<T>, body: unknown, tokenFields: readonly string[] = []): T {
  boundNodes(body, tokenFields);
  const parsed = schema.safeParse(body, { error: complaint });
  if (!parsed.success) throw validationError(parsed.error);
  return parsed.data;
}

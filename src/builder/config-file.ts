import { readFileSync } from 'node:fs';
import { type Document, isNode, LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { messageOf } from '../base/errors.ts';
import { didYouMean } from '../base/nearest.ts';
import { type BuildConfig, type BuildConfigInput, buildConfigSchema } from './config.ts';
import { BuilderError } from './errors.ts';

/** A build config is a page of text; more is another kind of file. */
const configBytesMax = 1024 * 1024;

/** Problems that one error reports; the rest is counted. */
const problemsMax = 5;

/** Where a value of a config stands, for error texts: `build.yaml:3:8`, or the flag that gave it. */
type Locate = (path: readonly PropertyKey[]) => string;

/**
 * Reads a `build.yaml` and lays `overrides` (the command line) over it.
 * @throws BuilderError BUILD_CONFIG_* naming line, column and the nearest known key
 */
export function loadBuildConfig(path: string | undefined, overrides: BuildConfigInput = {}): BuildConfig {
  const given = Object.fromEntries(Object.entries(overrides).filter(([, value]) => value !== undefined));
  if (path === undefined) return check(given, flagOf);
  const { value, locate } = parseConfig(path, readConfig(path));
  check(value, locate);
  return check({ ...value, ...given }, (at) => (String(at[0]) in given ? flagOf(at) : locate(at)));
}

function readConfig(path: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (thrown) {
    const message = `cannot read build config ${path}: ${messageOf(thrown)}; check --config`;
    throw new BuilderError('BUILD_CONFIG_NOT_FOUND', message, { cause: thrown });
  }
  if (bytes.length <= configBytesMax) return bytes.toString('utf8');
  const problem = `${path} has ${bytes.length} bytes, more than a build config may have (${configBytesMax})`;
  throw new BuilderError('BUILD_CONFIG_INVALID', `${problem}; is it another file?`);
}

function parseConfig(path: string, text: string): { value: Record<string, unknown>; locate: Locate } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const first = document.errors[0];
  if (first) {
    const { line, col } = lines.linePos(first.pos[0]);
    const reason = first.message.split(/ at line \d+/)[0];
    throw new BuilderError('BUILD_CONFIG_SYNTAX', `${path}:${line}:${col}: ${reason}; fix the YAML there`);
  }
  const value: unknown = document.toJS() ?? {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const problem = `${path} holds no mapping; write 'key: value' lines`;
    throw new BuilderError('BUILD_CONFIG_INVALID', `${problem}, such as 'dtype: q8_0'`);
  }
  return { value: value as Record<string, unknown>, locate: (at) => positionIn(document, lines, path, at) };
}

/** `file:line:column` of the value at `at`, or of the nearest enclosing one. */
function positionIn(
  document: Document,
  lines: LineCounter,
  path: string,
  at: readonly PropertyKey[],
): string {
  for (let length = at.length; length > 0; length--) {
    const node = document.getIn(at.slice(0, length), true);
    if (!isNode(node) || !node.range) continue;
    const { line, col } = lines.linePos(node.range[0]);
    return `${path}:${line}:${col}: `;
  }
  return `${path}: `;
}

function flagOf(at: readonly PropertyKey[]): string {
  const flag = String(at[0] ?? '').replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return flag === '' ? '' : `--${flag}: `;
}

function check(value: unknown, locate: Locate): BuildConfig {
  const result = buildConfigSchema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.flatMap((issue) => describe(issue, value, locate));
  const more = problems.length > problemsMax ? ` (and ${problems.length - problemsMax} more)` : '';
  throw new BuilderError('BUILD_CONFIG_INVALID', problems.slice(0, problemsMax).join('; ') + more);
}

function describe(issue: z.core.$ZodIssue, value: unknown, locate: Locate): string[] {
  const name = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    const known = issue.path.length === 0 ? Object.keys(buildConfigSchema.shape) : ['pattern', 'dtype'];
    return issue.keys.map((key) => {
      const where = locate([...issue.path, key]);
      const hint = didYouMean(key, known) || `; known: ${known.join(', ')}`;
      return `${where}unknown key '${key}'${name && ` in ${name}`}${hint}`;
    });
  }
  if (issue.code === 'invalid_value') {
    const given = issue.path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown>)?.[key], value);
    const known = issue.values.map(String);
    const hint = didYouMean(String(given), known);
    return [`${locate(issue.path)}${name} is '${String(given)}'; known: ${known.join(', ')}${hint}`];
  }
  return [`${locate(issue.path)}${name || 'the config'}: ${issue.message}`];
}

import { accessSync, constants, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import { CliError } from '../errors.ts';

/** Makes sure, before the work, that a report can be written where it is to go ('-' is stdout). @throws CliError CLI_VALUE_INVALID */
export function prepareReport(path: string | undefined): void {
  if (path === undefined || path === '-') return;
  try {
    mkdirSync(dirname(path), { recursive: true });
    accessSync(existsSync(path) ? path : dirname(path), constants.W_OK);
  } catch (cause) {
    throw new CliError('CLI_VALUE_INVALID', `${path} cannot be written: ${messageOf(cause)}`, { cause });
  }
}

/** Writes a report file, with its folder, and says so; '-' is stdout. */
export function writeReport(path: string, text: string): void {
  if (path === '-') {
    process.stdout.write(`${text}\n`);
    return;
  }
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  process.stderr.write(`wrote ${path}\n`);
}

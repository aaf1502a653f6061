import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/base/entry.ts';

/** The folder of real test data beside the checkout; tests that need it skip, with this reason, where it is absent. */
const sharedRoot = join(packageRoot, '..', 'shared');

/** Absolute path of a file or folder in `../shared`, whether it is there or not. */
export function sharedPath(path: string): string {
  return join(sharedRoot, path);
}

/** For `test(name, { skip: skipWithout('models/stories260K') }, …)`: `false`, or the reason to skip. */
export function skipWithout(path: string): string | false {
  return existsSync(sharedPath(path)) ? false : `test data ../shared/${path} is absent`;
}

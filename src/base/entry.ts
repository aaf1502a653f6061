import { fileURLToPath } from 'node:url';

/** How to start one of our own modules as a worker or child process. */
export interface EntryPoint {
  /** Absolute path of the module. */
  path: string;
  /** Flags for `node` in front of the path: none for the built `dist/`, tsx's loader when run from source. */
  execArgv: string[];
}

const fromSource = import.meta.url.endsWith('.ts');

/**
 * Resolves a module of ours that is to run in a worker or a child process, from source (`.ts`, through tsx) as well as from the
 * built `dist/` (`.js`). The only place that knows the difference.
 * @param pathInSource relative to `src/`, without suffix: 'runtime/process/engine-process'
 */
export function entryPoint(pathInSource: string): EntryPoint {
  const path = fileURLToPath(new URL(`../${pathInSource}${fromSource ? '.ts' : '.js'}`, import.meta.url));
  return { path, execArgv: fromSource ? ['--import', import.meta.resolve('tsx')] : [] };
}

/** The package's root folder (where `models/` and `package.json` lie), from source and from `dist/` alike. */
export const packageRoot: string = fileURLToPath(new URL('../../', import.meta.url));

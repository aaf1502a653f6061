import { pathToFileURL } from 'node:url';
import { Worker, type WorkerOptions } from 'node:worker_threads';
import { entryPoint } from './entry.ts';

/**
 * Starts a module of ours as a worker thread, from source (`.ts`) as well as from the built `dist/`. On Node 20 a worker ignores tsx's
 * `--import` (the loader only registers on the main thread), so from source a line of code registers it before the module loads.
 * @param pathInSource relative to `src/`, without suffix: 'tokenizer/encode-worker'
 */
export function startWorker(pathInSource: string, options: WorkerOptions = {}): Worker {
  const { path, execArgv } = entryPoint(pathInSource);
  if (execArgv.length === 0) return new Worker(path, options);
  const register = JSON.stringify(import.meta.resolve('tsx/esm/api'));
  const module = JSON.stringify(pathToFileURL(path).href);
  const code = `import(${register}).then(({ register }) => { register(); return import(${module}); });`;
  return new Worker(code, { ...options, eval: true });
}

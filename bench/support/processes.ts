import { type ChildProcess, fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

/** Starts one of a front-end benchmark's processes; on larger machines all of them share the first two cores. */
export function startProcess(name: 'client' | 'server'): ChildProcess {
  const path = fileURLToPath(new URL(`../frontend/${name}.ts`, import.meta.url));
  const pin = availableParallelism() > 2 && existsSync('/usr/bin/taskset');
  return fork(path, {
    execPath: pin ? '/usr/bin/taskset' : process.execPath,
    execArgv: [...(pin ? ['-c', '0,1', process.execPath] : []), '--import', import.meta.resolve('tsx')],
  });
}

/** Sends a message and resolves with the answer to it. */
export function ask<T>(child: ChildProcess, message: object): Promise<T> {
  return new Promise((resolve, reject) => {
    child.once('message', (answer) => {
      child.off('exit', onExit);
      resolve(answer as T);
    });
    const onExit = (code: number | null) => reject(new Error(`a benchmark process ended with ${code}`));
    child.once('exit', onExit);
    child.send(message);
  });
}

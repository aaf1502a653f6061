import { spawn } from 'node:child_process';
import { join } from 'node:path';

/** Runs a script of this folder to its end; its output, whatever its exit code. */
export function runPython(
  python: string,
  script: string,
  args: readonly string[],
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(python, [join(import.meta.dirname, script), ...args]);
    let output = '';
    const gather = (chunk: Buffer) => {
      output += chunk.toString();
    };
    child.stdout.on('data', gather);
    child.stderr.on('data', gather);
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}

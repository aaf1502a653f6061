import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '../../src/base/entry.ts';

/** What a finished `nereid` left behind. */
export interface CliOutcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface CliOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Text for stdin; without it stdin is empty. */
  input?: string;
  /** Called with the running process. */
  onStart?: (child: ChildProcess) => void;
  /** Another path of the program (a link to it). */
  program?: string;
}

const timeoutMs = 120_000;

/** Runs `bin/nereid` from source, as a user would. */
export function runCli(parameters: readonly string[], options: CliOptions = {}): Promise<CliOutcome> {
  const program = options.program ?? join(packageRoot, 'bin', 'nereid');
  // The test runner's own loader flags must not reach the program: it has to find its way by itself.
  const env = { ...process.env, NODE_OPTIONS: '', NEREID_FROM_SOURCE: '1', ...options.env };
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...parameters], {
      cwd: options.cwd,
      env,
      timeout: timeoutMs,
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
    child.stdin.end(options.input ?? '');
    options.onStart?.(child);
  });
}

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { after } from 'node:test';

/** Child processes that this process started and that still run. */
const running = new Set<ChildProcess>();

/**
 * Sees to it that a child does not outlive the tests of this file, however they end: what runs when all are over is killed. A test that failed
 * before it stopped its server would otherwise keep the file's process, and with it the whole run, waiting.
 */
export function endsWithTests(child: ChildProcess): void {
  running.add(child);
  child.once('exit', () => running.delete(child));
}

function killAll(): void {
  for (const child of running) child.kill('SIGKILL');
}

process.on('exit', killAll);
// The runner gives up a file that takes too long with this signal, which by itself would skip the line above.
process.once('SIGTERM', () => process.exit(143));
// Benches start servers, too; a hook would make node:test report on them.
const isTest = process.env.NODE_TEST_CONTEXT !== undefined || process.argv[1]?.endsWith('.test.ts') === true;
if (isTest) {
  // Registered while the file loads, so it comes after all hooks of its suites.
  after(async () => {
    const gone = [...running].map((child) => once(child, 'exit'));
    killAll();
    await Promise.all(gone);
  });
}

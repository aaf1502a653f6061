import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '../../src/base/entry.ts';
import { endsWithTests } from './children.ts';

/** A running `nereid serve`. */
export interface ServeProcess {
  child: ChildProcess;
  /** Of the HTTP port. */
  url: string;
  log(): string;
  /** Ctrl-C; resolves with the exit status. */
  stop(): Promise<number | null>;
}

const startTimeoutMs = 120_000;

/**
 * Runs `bin/nereid serve` of the embedded model (unless told otherwise) from source with an HTTP port of its own, as a user would. One that
 * is not stopped is killed when the file's tests are over.
 * @param cacheName a folder under `.cache/`, so that test files do not wait for each other's builds
 */
export async function startServe(
  cacheName: string,
  flags: readonly string[],
  env: NodeJS.ProcessEnv = {},
  models: readonly string[] = ['nereid-16m'],
): Promise<ServeProcess> {
  const command = [join(packageRoot, 'bin/nereid'), 'serve', ...models, '--http-port', '0', ...flags];
  const child = spawn(process.execPath, command, {
    env: {
      ...process.env,
      NODE_OPTIONS: '',
      NEREID_FROM_SOURCE: '1',
      NEREID_OFFLINE: '1',
      NEREID_CACHE: join(packageRoot, '.cache', cacheName),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  endsWithTests(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (bytes) => {
      text += bytes;
    });
  }
  const stop = async (): Promise<number | null> => {
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    child.kill('SIGINT');
    const [code] = await once(child, 'exit');
    return code;
  };
  const deadline = Date.now() + startTimeoutMs;
  for (;;) {
    const port = /on https?:\/\/127\.0\.0\.1:(\d+)/.exec(text)?.[1];
    if (port) return { child, url: `http://127.0.0.1:${port}`, log: () => text, stop };
    assert.equal(child.exitCode, null, text);
    assert.ok(Date.now() < deadline, text);
    await sleep(20);
  }
}

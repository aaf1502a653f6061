import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '../../src/base/entry.ts';
import { endsWithTests } from '../support/children.ts';

/** A server in processes of its own, as a user runs it, to be attacked from outside. */
export interface Target {
  child: ChildProcess;
  url: string;
  port: number;
  /** Everything it printed so far. */
  log: () => string;
}

const startTimeoutMs = 120_000;

/** How a {@link Target} is started. */
export interface TargetOptions {
  env?: NodeJS.ProcessEnv;
  /** Default: the embedded model. */
  model?: string;
  /** A program in front of Node's own, as `prlimit --nofile=100`. */
  wrapper?: readonly string[];
  /** Runs `dist/`, as users do, and not the source, whose processes take three times as long to start. */
  isBuilt?: boolean;
}

/** Starts `nereid serve` on a free port and waits until it says where it listens. */
export async function startTarget(flags: readonly string[], options: TargetOptions = {}): Promise<Target> {
  const { env = {}, model = 'nereid-16m', wrapper = [], isBuilt = false } = options;
  const command = [...wrapper, process.execPath, join(packageRoot, 'bin/nereid'), 'serve', model];
  const [program = process.execPath, ...parameters] = [...command, '--http-port', '0', ...flags];
  const child = spawn(program, parameters, {
    env: {
      ...process.env,
      NODE_OPTIONS: '',
      NEREID_FROM_SOURCE: isBuilt ? '' : '1',
      NEREID_OFFLINE: '1',
      NEREID_CACHE: join(packageRoot, '.cache/serve-test'),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  endsWithTests(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      text += chunk;
    });
  }
  const deadline = Date.now() + startTimeoutMs;
  for (;;) {
    const port = /on https?:\/\/127\.0\.0\.1:(\d+)/.exec(text)?.[1];
    if (port) return { child, url: `http://127.0.0.1:${port}`, port: Number(port), log: () => text };
    assert.equal(child.exitCode, null, text);
    assert.ok(Date.now() < deadline, text);
    await sleep(20);
  }
}

/** SIGINT, and the exit status. Fails when it does not end. */
export async function stopTarget({ child, log }: Target): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const gone = once(child, 'exit');
  child.kill('SIGINT');
  const ended = await Promise.race([gone.then(() => true), sleep(60_000, false, { ref: false })]);
  if (!ended) child.kill('SIGKILL');
  assert.ok(ended, `the server does not end:\n${log().slice(-4_000)}`);
  return child.exitCode;
}

/** Ends it without asking, whatever state it is in. */
export async function killTarget({ child }: Target): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

/** Ids of the target's child processes whose command line holds `part`. Linux only. */
export function childrenOf({ child }: Target, part: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
        return parent === child.pid && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(part);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Resident memory of a process, and the most it ever was, in bytes. Linux only. */
export function memoryOf(pid: number | undefined): { now: number; peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const bytes = (field: string): number =>
    Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1] ?? Number.NaN) * 1024;
  return { now: bytes('VmRSS'), peak: bytes('VmHWM') };
}

/** Open descriptors of a process. Linux only. */
export function descriptorsOf(pid: number | undefined): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Resolves once `condition` holds; fails after a minute. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = 60_000,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await sleep(20);
  }
}

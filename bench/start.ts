/**
 * npm run bench:start -- [--model NAME] [--rounds 5]
 *
 * From `bin/nereid serve` (the built dist/, an engine that is built) to the first token over HTTP, and the CPU that an idle server uses.
 * Bars: first token within 1.5 s; idle under 1 % of one core, server and engine process together. Linux only (/proc).
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { packageRoot } from '../src/base/entry.ts';
import { summary } from './support/statistics.ts';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string', default: 'smollm2-135m-instruct' },
    rounds: { type: 'string', default: '5' },
    'idle-seconds': { type: 'string', default: '10' },
  },
});
const rounds = Number(flags.rounds);
const idleSeconds = Number(flags['idle-seconds']);
const retryMs = 5;
/** After the first answer, before idleness is measured: what start-up left to collect is collected. */
const settleMs = 3_000;
const timeoutMs = 60_000;

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function startServer(port: number): ChildProcess {
  const command = [
    join(packageRoot, 'bin/nereid'),
    'serve',
    flags.model,
    '--http-port',
    String(port),
    '--log-level',
    'error',
  ];
  return spawn(process.execPath, command, { stdio: 'ignore' });
}

/** Resolves when the first token of a streamed answer is there; retries until the port answers. */
async function firstToken(port: number): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  const body = JSON.stringify({
    messages: [{ role: 'user', content: 'Hello, how are you?' }],
    max_tokens: 8,
    temperature: 0,
    stream: true,
  });
  for (;;) {
    if (Date.now() > deadline) throw new Error(`no token within ${timeoutMs} ms`);
    const response = await fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    }).catch(() => undefined);
    if (!response?.ok || !response.body) {
      await sleep(retryMs);
      continue;
    }
    let text = '';
    for await (const chunk of response.body) {
      text += Buffer.from(chunk).toString();
      if (/"content":"[^"]/.test(text)) return;
    }
    throw new Error(`the stream ended without a token: ${text}`);
  }
}

/** The process and its children. */
function family(pid: number): number[] {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && existsSync(`/proc/${name}/stat`))
    .map(Number)
    .filter((other) => statOf(other)?.[1] === pid);
  return [pid, ...children.flatMap(family)];
}

/** The fields after the command's name: state, parent, … (proc(5)). */
function statOf(pid: number): number[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text
      .slice(text.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
  } catch {
    return undefined;
  }
}

const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** User and system time of the processes so far, in seconds. */
function cpuSeconds(pids: readonly number[]): number {
  const ticks = pids.map((pid) => statOf(pid)).map((stat) => (stat?.[11] ?? 0) + (stat?.[12] ?? 0));
  return ticks.reduce((sum, one) => sum + one, 0) / ticksPerSecond;
}

async function stop(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGINT');
  await gone;
}

if (!existsSync(join(packageRoot, 'dist/cli/main.js')))
  throw new Error('bench:start measures dist/: run `make setup` first');
const startMs: number[] = [];
const idlePercent: number[] = [];
// One start that does not count: it builds the engine if need be and warms the file cache.
for (let round = -1; round < rounds; round++) {
  const port = await freePort();
  const beginMs = performance.now();
  const child = startServer(port);
  await firstToken(port);
  if (round >= 0) startMs.push(performance.now() - beginMs);
  if (round >= 0 && round < 3) {
    await sleep(settleMs);
    const pids = family(child.pid as number);
    const before = cpuSeconds(pids);
    await sleep(idleSeconds * 1000);
    idlePercent.push(((cpuSeconds(pids) - before) / idleSeconds) * 100);
  }
  await stop(child);
}
console.log(`${flags.model}, median [min … max]`);
console.log(`  start to first token over HTTP, ${rounds} starts: ${summary(startMs, 0)} ms   bar ≤ 1500 ms`);
console.log(
  `  idle CPU of all processes, ${idlePercent.length} × ${idleSeconds} s: ${summary(idlePercent, 2)} % of a core   bar < 1 %`,
);

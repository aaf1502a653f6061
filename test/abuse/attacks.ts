import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertServed, honest, keepAsking, RawClient, rawRequest } from './clients.ts';
import { childrenOf, descriptorsOf, memoryOf, type Target, until } from './server.ts';

/** How hard an attack is: the short form runs in `make test`, the long one in the soak and for figures. */
export interface Scale {
  clients: number;
  /** How long an honest client may wait. */
  honestMs: number;
}

/** Answers that nobody reads: long lists of token ids to turn into text. */
export async function unreadDetokenize(target: Target, { clients, honestMs }: Scale): Promise<void> {
  const ids = `{"tokens":[${'1,'.repeat(7_499_999)}1]}`;
  const attack = rawRequest('/detokenize', ids);
  await unread(target, attack, clients, honestMs);
}

/** Answers that nobody reads: many choices, each token with 20 log-probabilities. */
export async function unreadLogprobs(target: Target, { clients, honestMs }: Scale): Promise<void> {
  const attack = rawRequest('/v1/chat/completions', {
    messages: [{ role: 'user', content: 'x' }],
    n: 48,
    max_tokens: 900,
    logprobs: true,
    top_logprobs: 20,
    ignore_eos: true,
  });
  await unread(target, attack, clients, honestMs);
}

/** Answers of the size that is allowed, which nobody reads. */
export async function unreadAnswers(target: Target, { clients, honestMs }: Scale): Promise<void> {
  const attack = rawRequest('/v1/completions', {
    prompt: 'x',
    n: 4,
    max_tokens: 300,
    logprobs: 20,
    ignore_eos: true,
  });
  await unread(target, attack.repeat(4), clients, honestMs);
}

async function unread(target: Target, attack: string, clients: number, honestMs: number): Promise<void> {
  const stop = keepAsking(target);
  const attackers = Array.from({ length: clients }, () => new RawClient(target.port, false));
  await Promise.all(attackers.map((client) => Promise.race([client.send(attack), sleep(20_000)])));
  await sleep(3_000);
  assertServed(await stop(), honestMs);
  for (const client of attackers) client.reset();
  assert.equal(target.child.exitCode, null, 'the server died');
}

/** Many requests on one connection, which then dies. */
export async function pipelined(target: Target, { clients, honestMs }: Scale): Promise<void> {
  const attack = rawRequest('/v1/completions', { prompt: 'x', max_tokens: 900, ignore_eos: true });
  const client = new RawClient(target.port, false);
  await Promise.race([client.send(attack.repeat(clients)), sleep(2_000)]);
  await sleep(200);
  client.reset();
  await until(async () => (await waiting(target)) === 0, 'the queue empties', 5_000);
  assertServed([await honest(target)], honestMs);
}

async function waiting(target: Target): Promise<number> {
  const text = await (await fetch(`${target.url}/metrics`)).text();
  return Number(/vllm:num_requests_waiting\{[^}]*\} (\d+)/.exec(text)?.[1]);
}

/** An idle engine is stopped (not killed): a request comes, and nothing answers. */
export async function stoppedEngine(target: Target, { honestMs }: Scale): Promise<void> {
  await honest(target);
  const [pid] = childrenOf(target, 'engine-process');
  assert.ok(pid, 'an engine');
  process.kill(pid, 'SIGSTOP');
  const answers = await Promise.all(Array.from({ length: 8 }, () => honest(target)));
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([503]));
  await until(async () => (await fetch(`${target.url}/health/ready`)).status === 200, 'ready again');
  assertServed([await honest(target)], honestMs);
}

/** An engine is killed while requests run: each ends, and it is back. @returns milliseconds until it answered again */
export async function killedEngine(target: Target, { clients }: Scale): Promise<number> {
  const running = Array.from({ length: clients }, () => honest(target, { max_tokens: 400 }));
  await sleep(20);
  const [pid] = childrenOf(target, 'engine-process');
  assert.ok(pid, 'an engine');
  const killedMs = performance.now();
  process.kill(pid, 'SIGKILL');
  for (const { status } of await Promise.all(running))
    assert.ok(status === 200 || status === 503, `status ${status}`);
  await until(
    async () => (await honest(target).catch(() => ({ status: 0 }))).status === 200,
    'it answers again',
  );
  return performance.now() - killedMs;
}

/** A front end is killed and killed again while a scraper asks all of them once and again. */
export async function scrapedStart(target: Target): Promise<void> {
  const metricsPort = /Started Metrics Service at 127\.0\.0\.1:(\d+)/.exec(target.log())?.[1];
  assert.ok(metricsPort, 'a metrics port');
  let scraping = true;
  const scraper = (async () => {
    while (scraping) {
      const response = await fetch(`http://127.0.0.1:${metricsPort}/metrics`);
      assert.equal(response.status, 200);
      await response.text();
      await sleep(20);
    }
  })();
  for (let round = 0; round < 3; round++) {
    const before = childrenOf(target, 'front-end-process');
    process.kill(before[0] as number, 'SIGKILL');
    await until(() => {
      const now = childrenOf(target, 'front-end-process');
      return now.length === before.length && !now.includes(before[0] as number);
    }, 'another front end');
  }
  scraping = false;
  await scraper;
  assert.doesNotMatch(target.log(), /while starting \(exit/);
  await until(async () => (await honest(target).catch(() => ({ status: 0 }))).status === 200, 'it answers');
}

/** The temporary folder with the engine's socket is deleted, and then the engine dies. */
export async function deletedFolder(target: Target, folder: string): Promise<void> {
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true });
  await killedEngine(target, { clients: 2, honestMs: 0 });
}

/** Another limit of open descriptors for a running process, through util-linux' prlimit. */
export function limitDescriptors(pid: number | undefined, most: number): void {
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${most}:`]);
}

/** No descriptors are left for some seconds, and then the engine dies. */
export async function noDescriptors(target: Target, seconds: number): Promise<void> {
  const { pid } = target.child;
  limitDescriptors(pid, 3);
  process.kill(childrenOf(target, 'engine-process')[0] as number, 'SIGKILL');
  await sleep(seconds * 1000);
  limitDescriptors(pid, 4_096);
  await until(
    async () => (await honest(target).catch(() => ({ status: 0 }))).status === 200,
    'it answers again',
  );
}

/** No file may grow (as on a full disk), and the engine dies: it comes back all the same, since nothing is written to run. */
export async function noDisk(target: Target): Promise<void> {
  const limit = (bytes: string): void => {
    execFileSync('prlimit', ['--pid', String(target.child.pid), `--fsize=${bytes}:`]);
  };
  limit('0');
  try {
    await killedEngine(target, { clients: 2, honestMs: 0 });
  } finally {
    limit('unlimited');
  }
}

/** The engine gets no more memory while it has much to do: it goes on or ends, every request is answered, and it is back. */
export async function noMemory(target: Target): Promise<void> {
  const [pid] = childrenOf(target, 'engine-process');
  assert.ok(pid, 'an engine');
  const kilobytes = Number(/VmData:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  execFileSync('prlimit', ['--pid', String(pid), `--data=${kilobytes * 1024}:`]);
  const asked = Array.from({ length: 64 }, () => honest(target, { max_tokens: 300, n: 4 }));
  for (const { status } of await Promise.all(asked))
    assert.ok([200, 503].includes(status), `status ${status}`);
  // One that lives on must not stay short for the attacks that follow.
  if (childrenOf(target, 'engine-process').includes(pid)) process.kill(pid, 'SIGKILL');
  await until(
    async () => (await honest(target).catch(() => ({ status: 0 }))).status === 200,
    'it answers again',
  );
}

/** Bodies that are small to send and long to read: token ids, unknown fields, messages. */
export async function costlyBodies(target: Target, { clients, honestMs }: Scale): Promise<void> {
  const fields = Array.from({ length: 250_000 }, (_, i) => `"f${i}":0`).join(',');
  const messages = Array.from({ length: 16_000 }, () => '{"role":"user","content":"x"}').join(',');
  const bodies = [
    rawRequest('/v1/completions', `{"prompt":[${'1,'.repeat(9_999_999)}1]}`),
    rawRequest('/v1/completions', `{"prompt":"x",${fields}}`),
    rawRequest('/v1/chat/completions', `{"messages":[${messages}]}`),
  ];
  const stop = keepAsking(target);
  for (let round = 0; round < clients; round++) {
    for (const body of bodies) {
      const client = new RawClient(target.port);
      await client.send(body);
      await until(() => client.closed || /^HTTP\/1\.1 400 /.test(client.received), 'it is refused');
      client.reset();
    }
  }
  assertServed(await stop(), honestMs);
}

/** Long prompts of clients that leave at once, while an honest one asks with a prompt that needs a worker too. */
export async function leavingPrompts(target: Target, { clients, honestMs }: Scale): Promise<void> {
  const attack = rawRequest('/tokenize', { prompt: 'lighthouse '.repeat(1_400_000) });
  const leaving = Array.from({ length: clients }, () => new RawClient(target.port));
  await Promise.all(leaving.map((client) => client.send(attack)));
  await sleep(300);
  for (const client of leaving) client.reset();
  const startMs = performance.now();
  const response = await fetch(`${target.url}/tokenize`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'lighthouse '.repeat(1_700) }),
  });
  await response.text();
  assertServed([{ status: response.status, milliseconds: performance.now() - startMs }], honestMs);
}

/** Connections with half a request on each, held for ever. */
export async function halfSent(target: Target, { clients, honestMs }: Scale): Promise<void> {
  const attackers: RawClient[] = [];
  for (let i = 0; i < clients; i++) {
    const client = new RawClient(target.port, false);
    client.socket.write('POST /v1/completions HTTP/1.1\r\nhost: x\r\n');
    attackers.push(client);
    if (i % 100 === 0) await sleep(1);
  }
  await sleep(200);
  const answers = [];
  for (let i = 0; i < 10; i++) answers.push(await honest(target));
  assertServed(answers, honestMs);
  for (const client of attackers) client.reset();
  await until(() => descriptorsOf(target.child.pid) < 100, 'the descriptors are free again');
}

/** Peak memory of the front end so far, in megabytes. */
export function peakMegabytes(target: Target): number {
  return Math.round(memoryOf(target.child.pid).peak / 1e6);
}

import assert from 'node:assert/strict';
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
    n: 8,
    max_tokens: 900,
    logprobs: 20,
    ignore_eos: true,
  });
  await unread(target, attack.repeat(8), clients, honestMs);
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

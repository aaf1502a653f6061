/**
 * The long form of the abuse suite: `npm run soak -- --minutes 5 --kills 100`. First honest load alone (nothing may be lost, metrics must
 * equal the clients' counts, memory must not grow), then engine kills under load, then every attack once more. Exit status 1 when a
 * bar is missed. Linux only; what runs is the built server (`make setup`).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { SeededRandom } from '../../src/base/random.ts';
import * as attacks from './attacks.ts';
import { honest } from './clients.ts';
import { descriptorsOf, memoryOf, startTarget, stopTarget, type Target } from './server.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '2' },
    kills: { type: 'string', default: '20' },
    clients: { type: 'string', default: '16' },
    seed: { type: 'string', default: '1' },
    'no-attacks': { type: 'boolean', default: false },
  },
});
const minutes = Number(values.minutes);
const kills = Number(values.kills);
const clients = Number(values.clients);
/** Of a soak: what a heap may settle in. */
const growthBytesMax = 10e6;
const recoveryMsMax = 3_000;
const warmUpShare = 0.25;

let missed = 0;

function report(what: string, value: string | number, holds: boolean): void {
  if (!holds) missed++;
  process.stdout.write(`${holds ? 'ok    ' : 'MISSED'} ${what}: ${value}\n`);
}

/** What one client counted. */
interface Counts {
  answered: number;
  tokens: number;
  lost: number;
}

/** Asks, streaming or not, until told to stop. A stream that ends without its last event is lost. */
async function client(
  target: Target,
  random: SeededRandom,
  counts: Counts,
  goOn: () => boolean,
): Promise<void> {
  while (goOn()) {
    const maxTokens = 1 + random.integer(60);
    const stream = random.next() < 0.5;
    const body = { prompt: 'A lighthouse', max_tokens: maxTokens, ignore_eos: true, stream };
    try {
      const response = await fetch(`${target.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      const text = await response.text();
      const isWhole = stream ? text.endsWith('data: [DONE]\n\n') : text.endsWith('}');
      if (response.status !== 200 || !isWhole) throw new Error(`status ${response.status}`);
      counts.answered++;
      counts.tokens += maxTokens;
    } catch {
      counts.lost++;
    }
  }
}

async function metric(target: Target, pattern: RegExp): Promise<number> {
  const text = await (await fetch(`${target.url}/metrics`)).text();
  return Number(pattern.exec(text)?.[1] ?? Number.NaN);
}

const successPattern = /vllm:request_success_total\{[^}]*length[^}]*\} (\d+)/;
const tokensPattern = /vllm:generation_tokens_total\{[^}]*\} (\d+)/;

async function soak(target: Target): Promise<void> {
  const before = {
    success: await metric(target, successPattern),
    tokens: await metric(target, tokensPattern),
  };
  const counts: Counts = { answered: 0, tokens: 0, lost: 0 };
  const endMs = performance.now() + minutes * 60_000;
  const goOn = (): boolean => performance.now() < endMs;
  const asking = Array.from({ length: clients }, (_, index) =>
    client(target, new SeededRandom(Number(values.seed) * 1_000 + index), counts, goOn),
  );
  const samples: number[] = [];
  while (goOn()) {
    await sleep(1_000);
    samples.push(memoryOf(target.child.pid).now);
  }
  await Promise.all(asking);
  await sleep(500);
  // The least of each stretch: what is there after a collection.
  const warm = samples.slice(Math.floor(samples.length * warmUpShare));
  const third = Math.max(1, Math.floor(warm.length / 3));
  const growth = Math.min(...warm.slice(-third)) - Math.min(...warm.slice(0, third));
  report(
    'answers',
    `${counts.answered}, ${Math.round(counts.answered / (minutes * 60))} a second`,
    counts.answered > 0,
  );
  report('lost', counts.lost, counts.lost === 0);
  const success = (await metric(target, successPattern)) - before.success;
  report('answers by the metrics', success, success === counts.answered);
  const tokens = (await metric(target, tokensPattern)) - before.tokens;
  report(
    'tokens by the metrics, and by the clients',
    `${tokens}, ${counts.tokens}`,
    tokens === counts.tokens,
  );
  report('memory growth after warm-up, MB', (growth / 1e6).toFixed(1), growth <= growthBytesMax);
}

async function killAll(target: Target): Promise<void> {
  const before = { memory: memoryOf(target.child.pid).now, descriptors: descriptorsOf(target.child.pid) };
  const recoveries: number[] = [];
  for (let i = 0; i < kills; i++) {
    recoveries.push(await attacks.killedEngine(target, { clients: 8, honestMs: 0 }));
    if ((i + 1) % 100 === 0) process.stdout.write(`      ${i + 1} kills\n`);
  }
  recoveries.sort((a, b) => a - b);
  const at = (share: number): number =>
    Math.round(recoveries[Math.ceil(recoveries.length * share) - 1] ?? Number.NaN);
  report(
    `recovery after ${kills} kills, ms p50, p99, longest`,
    `${at(0.5)}, ${at(0.99)}, ${at(1)}`,
    at(0.99) <= recoveryMsMax,
  );
  await sleep(1_000);
  const after = { memory: memoryOf(target.child.pid).now, descriptors: descriptorsOf(target.child.pid) };
  report(
    'memory before and after, MB',
    `${Math.round(before.memory / 1e6)}, ${Math.round(after.memory / 1e6)}`,
    after.memory - before.memory < 100e6,
  );
  report(
    'descriptors before and after',
    `${before.descriptors}, ${after.descriptors}`,
    after.descriptors <= before.descriptors + 5,
  );
}

async function attackAll(target: Target, folder: string): Promise<void> {
  const honestMs = 1_000;
  const rows: [string, () => Promise<unknown>][] = [
    [
      'unread answers of /detokenize, 100 clients',
      () => attacks.unreadDetokenize(target, { clients: 100, honestMs }),
    ],
    [
      'unread log-probabilities, 12 clients',
      () => attacks.unreadLogprobs(target, { clients: 12, honestMs: 30_000 }),
    ],
    ['unread answers, 40 clients', () => attacks.unreadAnswers(target, { clients: 40, honestMs: 30_000 })],
    [
      '1,500 pipelined requests on a connection that dies',
      () => attacks.pipelined(target, { clients: 1_500, honestMs }),
    ],
    ['12,000 half-sent requests', () => attacks.halfSent(target, { clients: 12_000, honestMs })],
    ['costly bodies', () => attacks.costlyBodies(target, { clients: 5, honestMs })],
    ['long prompts of clients that leave', () => attacks.leavingPrompts(target, { clients: 4, honestMs })],
    ['a stopped engine', () => attacks.stoppedEngine(target, { clients: 8, honestMs })],
    ['its folder deleted', () => attacks.deletedFolder(target, folder)],
    ['no descriptors for 5 s', () => attacks.noDescriptors(target, 5)],
    ['no file may grow', () => attacks.noDisk(target)],
    ['no memory for the engine', () => attacks.noMemory(target)],
  ];
  for (const [name, attack] of rows) {
    const outcome = await attack().then(
      () => 'held',
      (error: Error) => error.message.split('\n', 1)[0] ?? 'failed',
    );
    const megabytes = attacks.peakMegabytes(target);
    report(name, `${outcome} (peak so far ${megabytes} MB)`, outcome === 'held' && megabytes <= 600);
  }
}

const folder = mkdtempSync(join(tmpdir(), 'nereid-soak-'));
const flags = [
  '--device',
  'null',
  '--device-option',
  'step-ms=1',
  '--log-level',
  'error',
  '--restarts-in-a-row',
  '1000000',
];
const target = await startTarget(flags, { env: { TMPDIR: folder }, isBuilt: true });
try {
  await honest(target);
  if (minutes > 0) await soak(target);
  if (kills > 0) await killAll(target);
  if (!values['no-attacks']) await attackAll(target, folder);
  report('exit status', (await stopTarget(target)) ?? -1, target.child.exitCode === 0);
} finally {
  target.child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
}
process.stdout.write(missed === 0 ? 'all bars hold\n' : `${missed} missed\n`);
process.exitCode = missed === 0 ? 0 : 1;

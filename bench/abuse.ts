/**
 * npm run bench:abuse -- [--rounds 5] [--seconds 5]
 *
 * How long the front end's event loop stands still while clients send what is small to send and dear to read (`costlyBodies`) or long
 * prompts that they do not wait for (`leavingPrompts` of test/abuse/attacks.ts), over and over, beside an honest client. Rounds alternate
 * with as long a stretch of the honest client alone. Milliseconds, median [min … max] over the rounds. Linux only; what runs is the built
 * server (`make setup`), with abuse/event-loop-probe.mjs in its front end.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import * as attacks from '../test/abuse/attacks.ts';
import { type HonestAnswer, honest, keepAsking } from '../test/abuse/clients.ts';
import { startTarget, stopTarget, type Target } from '../test/abuse/server.ts';
import { summary } from './support/statistics.ts';

const { values: flags } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '5' } },
});
const rounds = Number(flags.rounds);
const seconds = Number(flags.seconds);
/** Of an attack's own check on the honest client: here it is printed instead. */
const honestMs = Number.POSITIVE_INFINITY;

const scenarios: Record<string, (target: Target) => Promise<unknown>> = {
  'honest alone': () => sleep(100),
  'costly bodies': (target) => attacks.costlyBodies(target, { clients: 1, honestMs }),
  'leaving prompts': (target) => attacks.leavingPrompts(target, { clients: 4, honestMs }),
};

/** What one stretch of a scenario did to the others. */
interface Stretch {
  p99Ms: number;
  longestMs: number;
  honestP50Ms: number;
  honestLongestMs: number;
  failed: number;
}

/** What the probe in the server saw since it was last asked. */
async function lag(target: Target): Promise<{ p99Ms: number; longestMs: number }> {
  rmSync(probeFile, { force: true });
  target.child.kill('SIGUSR2');
  for (;;) {
    try {
      return JSON.parse(readFileSync(probeFile, 'utf8'));
    } catch {
      await sleep(5);
    }
  }
}

async function stretch(target: Target, attack: (target: Target) => Promise<unknown>): Promise<Stretch> {
  await lag(target);
  const stop = keepAsking(target);
  const endMs = performance.now() + seconds * 1000;
  while (performance.now() < endMs) await attack(target);
  const answers: HonestAnswer[] = await stop();
  const times = answers.map(({ milliseconds }) => milliseconds).sort((a, b) => a - b);
  return {
    ...(await lag(target)),
    honestP50Ms: times[times.length >> 1] ?? Number.NaN,
    honestLongestMs: times.at(-1) ?? Number.NaN,
    failed: answers.filter(({ status }) => status !== 200).length,
  };
}

const folder = mkdtempSync(join(tmpdir(), 'nereid-bench-abuse-'));
const probeFile = join(folder, 'event-loop.json');
const probe = fileURLToPath(new URL('./abuse/event-loop-probe.mjs', import.meta.url));
const target = await startTarget(
  ['--device', 'null', '--device-option', 'step-ms=1', '--log-level', 'error'],
  {
    env: { NODE_OPTIONS: `--import ${probe}`, NEREID_EVENT_LOOP_FILE: probeFile },
    isBuilt: true,
  },
);
const results = new Map<string, Stretch[]>(Object.keys(scenarios).map((name) => [name, []]));
try {
  await honest(target);
  for (let round = 0; round < rounds; round++)
    for (const [name, attack] of Object.entries(scenarios))
      results.get(name)?.push(await stretch(target, attack));
} finally {
  await stopTarget(target);
  rmSync(folder, { recursive: true });
}
for (const [name, stretches] of results) {
  const column = (of: (each: Stretch) => number): string => summary(stretches.map(of));
  console.log(
    `${name.padEnd(16)} event loop p99 ${column((s) => s.p99Ms)} ms, longest ${column((s) => s.longestMs)} ms; ` +
      `honest p50 ${column((s) => s.honestP50Ms)} ms, longest ${column((s) => s.honestLongestMs)} ms; ` +
      `${stretches.reduce((sum, { failed }) => sum + failed, 0)} failed`,
  );
}
const p99 = [...results].slice(1).flatMap(([, stretches]) => stretches.map(({ p99Ms }) => p99Ms));
console.log(`bar: p99 <= 50 ms under abuse: ${Math.max(...p99).toFixed(1)} ms at worst`);

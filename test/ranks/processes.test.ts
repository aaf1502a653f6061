import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '../../src/base/entry.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { Parallelism } from '../../src/models/partition.ts';
import { RankSupervisor } from '../../src/runtime/process/rank-supervisor.ts';
import {
  EngineSupervisor,
  type SupervisorEvent,
  type SupervisorOptions,
} from '../../src/runtime/process/supervisor.ts';
import type { SequenceEvent } from '../../src/runtime/requests/events.ts';
import { greedySampling } from '../../src/runtime/requests/request.ts';
import { buildForGroup } from './in-process-group.ts';

/** Groups as they are served: real processes, shared memory or TCP. */
const folder = mkdtempSync(join(tmpdir(), 'nereid-rank-processes-'));
const open: { close(): Promise<void> }[] = [];
after(async () => {
  await Promise.all(open.map((one) => one.close()));
  rmSync(folder, { recursive: true, force: true });
});
const embedded = join(packageRoot, 'models/nereid-16m');
const linuxOnly = process.platform === 'linux' ? false : 'reads /proc';
/** The long form: `NEREID_RANK_KILLS=1000 node --import tsx --test test/ranks/processes.test.ts`. */
const kills = Number(process.env.NEREID_RANK_KILLS ?? 4);

const room = {
  name: 'group',
  deviceOptions: {} as Record<string, string>,
  nullModel: { vocabularySize: 1000, contextLength: 512 },
  threads: 1,
  slots: 8,
  batchTokensMax: 64,
  kvDtype: 'f32' as const,
  kvBytesMax: 2 ** 28,
  contextLength: 256,
  prefixReuse: true,
};

async function startGroup(
  device: string,
  group: Parallelism | undefined,
  engineFolder: string | undefined,
  options: SupervisorOptions = {},
): Promise<EngineSupervisor> {
  const deviceOptions: Record<string, string> = device === 'null' ? { 'step-ms': '2' } : {};
  const engine = engineFolder === undefined ? {} : { engineFolder };
  const configuration = { ...room, device, deviceOptions, ...engine, ...(group && { group }) };
  const supervisor = await EngineSupervisor.start(configuration, options);
  open.push(supervisor);
  return supervisor;
}

/** Submits, and resolves with every event once all sequences have ended. */
function generate(
  { client }: EngineSupervisor,
  prompt: readonly number[],
  maxTokens: number,
  onEvent: () => void = () => {},
): Promise<SequenceEvent[]> {
  return new Promise((resolve) => {
    const events: SequenceEvent[] = [];
    const lengths = { maxTokens, minTokens: maxTokens, stopTokenIds: [], sequences: 1, priority: 0 };
    client.submit(
      { promptTokens: Int32Array.from(prompt), sampling: greedySampling, ...lengths },
      (event) => {
        assert.ok(!events.at(-1)?.finish, 'nothing comes after the end');
        events.push(event);
        onEvent();
        if (event.finish) resolve(events);
      },
    );
  });
}

const tokensOf = (events: readonly SequenceEvent[]): number[] => events.flatMap((event) => [...event.tokens]);

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await sleep(10);
  }
}

/** Process ids of the ranks, which the engine's process started; in order of their start. */
function ranksOf({ pid }: EngineSupervisor): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid;
      } catch {
        return false;
      }
    })
    .map(Number)
    .sort((a, b) => a - b);
}

const prompts = [
  [1, 40, 72, 300, 41],
  [5, 6, 7],
  [900, 12, 33, 400, 401, 402, 77],
  [2000, 31],
];

test('nereid-16m writes the same greedy texts on one rank, two, two stages, and two by two', async () => {
  const texts = async (shape: Parallelism | undefined) => {
    const own = shape ?? { tensor: 1, pipeline: 1 };
    const engine = await buildForGroup(embedded, folder, own, { dtype: 'f16' });
    const supervisor = await startGroup('ggml', shape, engine);
    const all = await Promise.all(prompts.map((prompt) => generate(supervisor, prompt, 24)));
    await supervisor.close();
    return all.map(tokensOf);
  };
  const alone = await texts(undefined);
  assert.equal(alone.flat().length, prompts.length * 24);
  for (const shape of [
    { tensor: 2, pipeline: 1 },
    { tensor: 1, pipeline: 2 },
    { tensor: 2, pipeline: 2 },
  ]) {
    assert.deepEqual(await texts(shape), alone, JSON.stringify(shape));
  }
});

test('a killed rank takes the group with it: requests end with the reason, and all ranks come back', {
  skip: linuxOnly,
}, async () => {
  const events: SupervisorEvent[] = [];
  const supervisor = await startGroup('null', { tensor: 3, pipeline: 1 }, undefined, {
    onEvent: (event) => events.push(event),
  });
  const before = ranksOf(supervisor);
  assert.equal(before.length, 3);
  let tokens = 0;
  const running = generate(supervisor, [1, 2, 3], 200, () => tokens++);
  await until(() => tokens > 0, 'the request runs');
  process.kill(before[2] as number, 'SIGKILL');
  const last = (await running).at(-1);
  assert.equal(last?.finish, 'error');
  assert.equal(last?.error?.code, 'ENGINE_UNAVAILABLE');
  assert.equal(supervisor.client.ready, false);
  await until(() => supervisor.client.ready, 'the group is back');
  const exited = events.find(({ event }) => event === 'exited');
  assert.match(exited?.detail ?? '', /rank 2 of 3 ended \(exit SIGKILL\); all ranks are restarted/);
  const now = ranksOf(supervisor);
  assert.equal(now.length, 3);
  assert.ok(
    before.every((pid) => !now.includes(pid)),
    'no rank outlived another',
  );
  assert.equal(tokensOf(await generate(supervisor, [1, 2, 3], 8)).length, 8);
  assert.deepEqual(regionsLeft(supervisor), []);
});

/** Shared memory that the group's process left behind. */
function regionsLeft({ pid }: EngineSupervisor): string[] {
  return readdirSync('/dev/shm').filter((name) => name.startsWith(`nereid-ranks-${pid}-`));
}

test('a rank that is stopped while idle does not answer, and the group is started again', {
  skip: linuxOnly,
}, async () => {
  const events: SupervisorEvent[] = [];
  const supervisor = await startGroup('null', { tensor: 2, pipeline: 1 }, undefined, {
    onEvent: (event) => events.push(event),
    idleDeadlineMs: 3_000,
  });
  process.kill(ranksOf(supervisor)[1] as number, 'SIGSTOP');
  await until(() => events.some(({ event }) => event === 'stuck'), 'the supervisor notices');
  await until(() => events.filter(({ event }) => event === 'started').length === 2, 'the group is back');
  await until(() => supervisor.client.ready, 'the client is connected');
  assert.equal(tokensOf(await generate(supervisor, [4], 4)).length, 4);
});

test(`${kills} random kills of any rank: every request ends, once, and the group recovers`, {
  skip: linuxOnly,
}, async () => {
  const seed = 23;
  const random = new SeededRandom(seed);
  const supervisor = await startGroup('null', { tensor: 2, pipeline: 1 }, undefined, {
    restartsMax: kills + 1,
  });
  for (let round = 0; round < kills; round++) {
    const label = `seed ${seed}, round ${round}`;
    const running = Array.from({ length: 6 }, () =>
      generate(supervisor, [1 + random.integer(900)], 20 + random.integer(200)),
    );
    await sleep(random.integer(120));
    const victims = [supervisor.pid as number, ...ranksOf(supervisor)];
    process.kill(victims[random.integer(victims.length)] as number, 'SIGKILL');
    for (const events of await Promise.all(running)) {
      const finish = events.at(-1)?.finish;
      assert.ok(finish === 'error' || finish === 'length', `${label}: ${finish}`);
    }
    await until(() => !supervisor.client.ready, `${label}: the loss is seen`);
    await until(() => supervisor.client.ready, `${label}: the group is back`);
    assert.equal(tokensOf(await generate(supervisor, [7], 3)).length, 3, label);
  }
});

test('ranks of two hosts find each other over TCP, and again after one of them died', async () => {
  const parallelism = { tensor: 2, pipeline: 1 };
  const engineFolder = await buildForGroup(embedded, folder, parallelism, { dtype: 'f16' });
  const { createServer } = await import('node:net');
  const { listenAt } = await import('../../src/runtime/ranks/address.ts');
  const server = createServer();
  const leader = await listenAt(server, { host: '127.0.0.1', port: 0 });
  await new Promise((resolve) => server.close(resolve));
  const seat = (rank: number) => ({ rank, parallelism, leader, secret: 'the secret of this test' });
  const configuration = { ...room, device: 'ggml', engineFolder };
  const events: SupervisorEvent[] = [];
  const follower = new RankSupervisor(
    { ...configuration, seat: seat(1), socketPath: '' },
    { onEvent: (event) => events.push(event) },
  );
  open.push(follower);
  const following = follower.start();
  const supervisor = await EngineSupervisor.start({ ...configuration, seat: seat(0) });
  open.push(supervisor);
  await following;
  const text = tokensOf(await generate(supervisor, [1, 40, 72], 10));
  assert.equal(text.length, 10);
  const pid = Number(/process (\d+)/.exec(events[0]?.detail ?? '')?.[1]);
  process.kill(pid, 'SIGKILL');
  await until(() => !supervisor.client.ready, 'rank 0 lost rank 1');
  await until(() => supervisor.client.ready, 'both are back');
  assert.deepEqual(tokensOf(await generate(supervisor, [1, 40, 72], 10)), text);
});

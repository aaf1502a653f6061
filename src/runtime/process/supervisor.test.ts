import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { endsWithTests } from '../../../test/support/children.ts';
import type { SequenceEvent } from '../requests/events.ts';
import { type GenerationRequest, greedySampling } from '../requests/request.ts';
import { EnginePool } from '../routing/pool.ts';
import { RemoteEngine } from '../transport/remote-client.ts';
import { EngineSupervisor, type SupervisorEvent, type SupervisorOptions } from './supervisor.ts';

const nullEngine = {
  name: 'null-model',
  device: 'null',
  deviceOptions: {} as Record<string, string>,
  nullModel: { vocabularySize: 1000, contextLength: 512 },
  threads: 1,
  slots: 8,
  batchTokensMax: 64,
  kvDtype: 'f16' as const,
  kvBytesMax: 64 * 1024 * 1024,
  prefixReuse: true,
};

const open: { close(): Promise<void> }[] = [];
after(() => Promise.all(open.map((one) => one.close())));

async function start(
  deviceOptions: Record<string, string> = {},
  options: SupervisorOptions = {},
): Promise<EngineSupervisor> {
  const supervisor = await EngineSupervisor.start({ ...nullEngine, deviceOptions }, options);
  open.push(supervisor);
  return supervisor;
}

function request(prompt: number[], changes: Partial<GenerationRequest> = {}): Omit<GenerationRequest, 'id'> {
  return {
    promptTokens: Int32Array.from(prompt),
    sampling: greedySampling,
    maxTokens: 16,
    minTokens: 0,
    stopTokenIds: [],
    sequences: 1,
    priority: 0,
    ...changes,
  };
}

/** Submits and resolves with every event once all sequences have ended. */
function generate(
  client: RemoteEngine | EnginePool,
  asked: Omit<GenerationRequest, 'id'>,
  onEvent: () => void = () => {},
): Promise<SequenceEvent[]> {
  return new Promise((resolve) => {
    const events: SequenceEvent[] = [];
    let unfinished = asked.sequences;
    client.submit(asked, (event) => {
      events.push(event);
      onEvent();
      if (event.finish && --unfinished === 0) resolve(events);
    });
  });
}

const tokensOf = (events: SequenceEvent[]): number[] => events.flatMap((event) => event.tokens);

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await sleep(20);
  }
}

describe('an engine process under its supervisor', () => {
  test('answers like an engine in this process, sequence by sequence', async () => {
    const { client } = await start();
    const events = await generate(client, request([1, 2, 3], { sequences: 3 }));
    assert.equal(events.filter((event) => event.finish === 'length').length, 3);
    assert.equal(tokensOf(events).length, 48);
    assert.equal(events.filter((event) => event.start).length, 1);
    await until(() => client.statistics().generatedTokens === 48, 'the statistics of an idle engine');
  });

  test('refuses what the engine cannot take', async () => {
    const { client } = await start();
    assert.throws(() => client.submit(request([5000]), () => {}), /REQUEST_INVALID|promptTokens/);
    assert.throws(() => client.submit(request(new Array(600).fill(1)), () => {}), /512/);
  });

  test('a KV cache of less than one full sequence shortens the context', async () => {
    const bytesPerPosition = 128;
    const small = await EngineSupervisor.start({ ...nullEngine, kvBytesMax: 8 * bytesPerPosition });
    open.push(small);
    assert.equal(small.client.description.contextLength, 8);
    const events = await generate(small.client, request([1, 2, 3], { maxTokens: 400 }));
    assert.equal(events.at(-1)?.finish, 'length');
    assert.equal(tokensOf(events).length, 5);
  });

  test('a cancelled request ends at once, and its slot serves the next', async () => {
    const { client } = await start({ 'step-ms': '5' });
    const events: SequenceEvent[] = [];
    const handle = client.submit(request([1], { maxTokens: 400 }), (event) => events.push(event));
    await until(() => events.length > 2, 'a few tokens');
    handle.cancel();
    await until(() => events.at(-1)?.finish === 'cancelled', 'the cancellation');
    assert.ok(tokensOf(events).length < 400);
    assert.equal(tokensOf(await generate(client, request([1]))).length, 16);
  });

  test('killed under load: open requests fail with a clear error, then it is back', async () => {
    const told: SupervisorEvent[] = [];
    const supervisor = await start({ 'step-ms': '20' }, { onEvent: (event) => told.push(event) });
    const running = Promise.all(
      [1, 2, 3].map((token) => generate(supervisor.client, request([token], { maxTokens: 500 }))),
    );
    const pid = supervisor.pid as number;
    process.kill(pid, 'SIGKILL');
    for (const events of await running) {
      assert.equal(events.at(-1)?.finish, 'error');
      assert.equal(events.at(-1)?.error?.code, 'ENGINE_UNAVAILABLE');
      assert.equal(events.at(-1)?.error?.kind, 'unavailable');
    }
    assert.equal(supervisor.client.ready, false);
    assert.throws(() => supervisor.client.submit(request([1]), () => {}), /restarting/);
    await supervisor.client.whenReady();
    assert.notEqual(supervisor.pid, pid);
    assert.equal(tokensOf(await generate(supervisor.client, request([1]))).length, 16);
    assert.deepEqual(
      told.map(({ event }) => event),
      ['started', 'exited', 'restarting', 'started'],
    );
  });

  test('after too many restarts it goes on trying, slowly, and everybody is told so until it is back', async () => {
    const told: SupervisorEvent[] = [];
    const supervisor = await start({}, { restartsMax: 0, onEvent: (event) => told.push(event) });
    process.kill(supervisor.pid as number, 'SIGKILL');
    await until(() => told.some(({ event }) => event === 'unavailable'), 'the slow pace');
    const pool = new EnginePool([supervisor.client]);
    assert.match(pool.notReadyReason ?? '', /0 times in a row .*SIGKILL.* tried again every 10 s/);
    assert.throws(() => pool.submit(request([1]), () => {}), /tried again every 10 s/);
    await supervisor.client.whenReady();
    assert.equal(pool.notReadyReason, undefined);
    assert.equal(tokensOf(await generate(supervisor.client, request([1]))).length, 16);
  });

  for (const state of ['idle', 'in a step']) {
    test(`stopped by a signal while ${state}: it does not answer, so it is killed and restarted`, {
      skip: process.platform !== 'linux',
    }, async () => {
      const told: SupervisorEvent[] = [];
      const options = { idleDeadlineMs: 2_000, onEvent: (event: SupervisorEvent) => told.push(event) };
      const supervisor = await start({ 'step-ms': '20' }, options);
      let isRunning = false;
      const asked = request([1], { maxTokens: state === 'idle' ? 1 : 500 });
      const running = generate(supervisor.client, asked, () => {
        isRunning = true;
      });
      if (state === 'idle') await running;
      else await until(() => isRunning, 'its first token');
      process.kill(supervisor.pid as number, 'SIGSTOP');
      for (const events of await Promise.all([generate(supervisor.client, request([1])), running])) {
        if (events === (await running) && state === 'idle') continue;
        assert.equal(events.at(-1)?.error?.code, 'ENGINE_UNAVAILABLE');
      }
      assert.match(
        told.find(({ event }) => event === 'stuck')?.detail ?? '',
        /no answer while idle or stopped/,
      );
      await supervisor.client.whenReady();
      assert.equal(tokensOf(await generate(supervisor.client, request([1]))).length, 16);
    });
  }

  test('a step longer than an idle engine may be silent is let be', async () => {
    const supervisor = await start({ 'step-ms': '5000' }, { idleDeadlineMs: 2_500 });
    const events = await generate(supervisor.client, request([1], { maxTokens: 1 }));
    assert.equal(events.at(-1)?.finish, 'length');
  });

  test('its folder deleted: the next life makes it again', async () => {
    const supervisor = await start();
    rmSync(dirname(supervisor.socketPath), { recursive: true });
    process.kill(supervisor.pid as number, 'SIGKILL');
    await until(() => !supervisor.client.ready, 'the loss noticed');
    await supervisor.client.whenReady();
    assert.equal(tokensOf(await generate(supervisor.client, request([1]))).length, 16);
  });

  test('stuck in a step: killed after the deadline and restarted', async () => {
    const told: SupervisorEvent[] = [];
    const options = { stepDeadlineMs: 1_000, onEvent: (event: SupervisorEvent) => told.push(event) };
    const supervisor = await start({ 'step-ms': '600000' }, options);
    const events = await generate(supervisor.client, request([1]));
    assert.equal(events.at(-1)?.error?.code, 'ENGINE_UNAVAILABLE');
    assert.ok(told.some(({ event }) => event === 'stuck'));
    await supervisor.client.whenReady();
  });

  test('an engine that cannot start says why, once, and leaves nothing behind', async () => {
    // A temporary folder of its own: other tests make and remove theirs at the same time.
    const own = mkdtempSync(join(tmpdir(), 'supervisor-test-'));
    const before = process.env.TMPDIR;
    process.env.TMPDIR = own;
    try {
      await assert.rejects(start({ mode: 'nonsense' }), /hash, echo or script/);
      assert.deepEqual(
        readdirSync(own).filter((name) => name.startsWith('nereid-')),
        [],
      );
    } finally {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
      rmSync(own, { recursive: true });
    }
  });

  test('closing drains: running requests finish, new ones are refused', async () => {
    const supervisor = await EngineSupervisor.start({ ...nullEngine, deviceOptions: { 'step-ms': '5' } });
    open.push(supervisor);
    const running = generate(supervisor.client, request([1], { maxTokens: 40 }));
    const closed = supervisor.close({ drainTimeoutMs: 60_000 });
    assert.throws(() => supervisor.client.submit(request([1]), () => {}), /shutting down/);
    const events = await running;
    assert.equal(events.at(-1)?.finish, 'length');
    assert.equal(tokensOf(events).length, 40);
    await closed;
    assert.equal(existsSync(supervisor.socketPath), false);
  });
});

describe('several front ends and engines', () => {
  test('two front ends of one engine see only their own events', async () => {
    const supervisor = await start();
    const second = new RemoteEngine(supervisor.socketPath);
    open.push(second);
    await second.whenReady();
    const [a, b] = await Promise.all([
      generate(supervisor.client, request([1, 2])),
      generate(second, request([1, 2])),
    ]);
    assert.deepEqual(tokensOf(a), tokensOf(b));
    assert.notEqual(a[0]?.requestId, b[0]?.requestId);
  });

  test('a front end that leaves takes its requests with it', async () => {
    const supervisor = await start({ 'step-ms': '5' });
    const leaving = new RemoteEngine(supervisor.socketPath);
    open.push(leaving);
    await leaving.whenReady();
    leaving.submit(request([1], { maxTokens: 500 }), () => {});
    const running = (): number => supervisor.client.statistics().runningSequences;
    const own = generate(supervisor.client, request([2], { maxTokens: 500 }));
    await until(() => running() === 2, 'both running');
    await leaving.close();
    await until(() => running() < 2, 'the cancelled one gone');
    assert.equal((await own).at(-1)?.finish, 'length');
  });

  test('a pool spreads sequences over its engines and survives the loss of one', async () => {
    const [first, second] = await Promise.all([start({ 'step-ms': '5' }), start({ 'step-ms': '5' })]);
    const pool = new EnginePool([first.client, second.client]);
    const both = Promise.all(
      [1, 2, 3, 4].map((token) => generate(pool, request([token], { maxTokens: 400 }))),
    );
    await until(() => pool.statistics().runningSequences === 4, 'four running');
    assert.equal(first.client.inFlight, 2);
    assert.equal(second.client.inFlight, 2);
    for (const events of await both) assert.equal(tokensOf(events).length, 400);
    process.kill(first.pid as number, 'SIGKILL');
    await until(() => !first.client.ready, 'the loss noticed');
    assert.equal(pool.ready, true);
    assert.equal(tokensOf(await generate(pool, request([9]))).length, 16);
  });
});

test('a supervisor killed with SIGKILL leaves no engine process', {
  skip: process.platform !== 'linux',
}, async () => {
  const child = fork(fileURLToPath(new URL('../../../test/support/doomed-supervisor.ts', import.meta.url)), {
    execArgv: ['--import', import.meta.resolve('tsx')],
  });
  endsWithTests(child);
  const [pid] = (await once(child, 'message')) as [number];
  assert.ok(existsSync(join('/proc', String(pid))));
  child.kill('SIGKILL');
  await until(() => !existsSync(join('/proc', String(pid))), 'the engine gone');
});

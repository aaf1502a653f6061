import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { concurrencyMax, requestsMax, workersMax } from '../limits.ts';
import type { RequestRecord } from '../record.ts';
import type { LoadPlan, LoadResult } from './plan.ts';
import { runLoad } from './run.ts';

/** What a foreign server does with a request: the body in, anything out. */
type Script = (body: RequestBody, response: ServerResponse, request: IncomingMessage) => void | Promise<void>;

interface RequestBody {
  model: string;
  messages: { role: string; content: string }[];
  max_tokens: number;
}

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function listen(script: Script): Promise<string> {
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (bytes) => {
      text += bytes;
    });
    request.on('end', () => void script(JSON.parse(text) as RequestBody, response, request));
  }).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const event = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`;
const chunk = (content: string): string => event({ choices: [{ delta: { content }, finish_reason: null }] });

/** Answers with as many tokens as were asked for, one a `gapMs`. */
function streaming(gapMs: number, onBody: (body: RequestBody) => void = () => {}): Script {
  return async (body, response) => {
    onBody(body);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(event({ choices: [{ delta: { role: 'assistant', content: '' } }] }));
    for (let i = 0; i < body.max_tokens && !response.destroyed; i++) {
      response.write(chunk(`w${i} `));
      if (gapMs > 0) await sleep(gapMs);
    }
    response.write(event({ choices: [{ delta: {}, finish_reason: 'length' }] }));
    const usage = { prompt_tokens: 9, completion_tokens: body.max_tokens };
    response.end(`${event({ choices: [], usage })}data: [DONE]\n\n`);
  };
}

interface Changes extends Omit<Partial<LoadPlan>, 'target' | 'workload'> {
  target?: Partial<LoadPlan['target']>;
  workload?: Partial<LoadPlan['workload']>;
}

function plan(url: string, { target, workload, ...rest }: Changes = {}): LoadPlan {
  const exactly = (mean: number) => ({ distribution: 'normal' as const, mean, spread: 0 });
  return {
    target: {
      kind: 'openai-chat',
      url,
      model: 'm',
      headers: {},
      streams: true,
      sampling: { ignoreEos: false },
      extraBody: {},
      channels: 1,
      timeoutMs: 0,
      ...target,
    },
    workload: {
      source: { kind: 'synthetic', input: exactly(4), prefixes: 1, prefixTokens: 0, turns: 1 },
      output: exactly(3),
      seed: 1,
      sendsTokens: false,
      vocabularySize: 100,
      models: [],
      cancelShare: 0,
      salted: false,
      ...workload,
    },
    pace: { kind: 'closed', concurrency: 4 },
    sessions: 20,
    warmupSessions: 0,
    workers: 1,
    keepsText: false,
    ...rest,
  };
}

function outcomes({ records }: LoadResult): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { outcome } of records) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

/** Requests in flight at once, at most. */
function mostInFlight(records: readonly RequestRecord[]): number {
  return Math.max(
    ...records.map(
      ({ sentMs }) =>
        records.filter((other) => other.sentMs <= sentMs && other.sentMs + other.endMs > sentMs).length,
    ),
  );
}

describe('runLoad', { concurrency: false }, () => {
  test('closed loop: every request once, so many at a time, server counts used, the head no output', async () => {
    const url = await listen(streaming(2));
    const result = await runLoad(plan(url, { keepsText: true }));
    assert.deepEqual(outcomes(result), { completed: 20 });
    assert.deepEqual(
      result.records.map(({ session }) => session),
      Array.from({ length: 20 }, (_, i) => i),
    );
    assert.ok(mostInFlight(result.records) <= 4);
    for (const record of result.records) {
      assert.equal(record.outputMs.length, 4, 'three tokens and the finish');
      assert.deepEqual([record.inputTokens, record.outputTokens, record.tokenCountSource], [9, 3, 'usage']);
      assert.equal(record.finishReason, 'length');
      assert.equal(record.text, 'w0 w1 w2 ');
      assert.ok(record.endMs >= record.outputMs.at(-1)!);
    }
  });

  test('open loop: sent when they arrive, never before, and no more than the limit at once', async () => {
    const url = await listen(streaming(0));
    const pace = { kind: 'open' as const, arrivals: { kind: 'poisson' as const, ratePerSecond: 200 } };
    const free = await runLoad(plan(url, { pace, sessions: 60 }));
    assert.deepEqual(outcomes(free), { completed: 60 });
    assert.ok(free.records.every(({ sentMs, scheduledMs }) => sentMs >= scheduledMs!));
    const slow = await listen(streaming(5));
    const limited = await runLoad(plan(slow, { pace: { ...pace, concurrencyMax: 3 }, sessions: 30 }));
    assert.ok(mostInFlight(limited.records) <= 3);
    assert.ok(
      limited.records.some(({ sentMs, scheduledMs }) => sentMs > scheduledMs! + 5),
      'some had to wait',
    );
  });

  test('a conversation carries all before it, and its turns follow one another', async () => {
    const bodies: RequestBody[] = [];
    const url = await listen(streaming(0, (body) => bodies.push(body)));
    const exactly = { distribution: 'normal' as const, mean: 2, spread: 0 };
    const source = { kind: 'synthetic' as const, input: exactly, prefixes: 1, prefixTokens: 0, turns: 3 };
    const result = await runLoad(
      plan(url, { workload: { source }, sessions: 2, pace: { kind: 'closed', concurrency: 1 } }),
    );
    assert.deepEqual(
      result.records.map(({ session, turn }) => [session, turn]),
      [
        [0, 0],
        [0, 1],
        [0, 2],
        [1, 0],
        [1, 1],
        [1, 2],
      ],
    );
    assert.deepEqual(
      bodies[2]!.messages.map(({ role }) => role),
      ['user', 'assistant', 'user', 'assistant', 'user'],
    );
    assert.equal(bodies[2]!.messages[1]!.content, 'w0 w1 w2 ');
    assert.equal(bodies[2]!.messages[0]!.content, bodies[0]!.messages[0]!.content);
  });

  test('cancelled requests reach the server as closed connections', async () => {
    let closed = 0;
    const url = await listen((body, response, request) => {
      response.on('close', () => {
        if (!response.writableFinished) closed++;
      });
      return streaming(3)(body, response, request);
    });
    const output = { distribution: 'normal' as const, mean: 50, spread: 0 };
    const result = await runLoad(plan(url, { workload: { cancelShare: 1, output }, sessions: 8 }));
    assert.deepEqual(outcomes(result), { cancelled: 8 });
    const deadline = Date.now() + 20_000;
    while (closed < 8 && Date.now() < deadline) await sleep(10);
    assert.equal(closed, 8);
  });

  test('whatever goes wrong with a request is in its record', async () => {
    const scripts: [Script, RegExp][] = [
      [(_, response) => void response.writeHead(503).end('too busy'), /HTTP 503: too busy/],
      [(_, response) => void response.destroy(), /hang up|closed/],
      [
        (_, response) =>
          void response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: {x\n\n'),
        /no JSON/,
      ],
      [
        (_, response) =>
          void response
            .writeHead(200, { 'content-type': 'text/event-stream' })
            .end(event({ error: { message: 'engine died' } })),
        /engine died/,
      ],
      [
        (_, response) =>
          void response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: [DONE]\n\n'),
        /without any output/,
      ],
      [
        (_, response) => {
          response.writeHead(200, { 'content-type': 'text/event-stream' });
          response.write(chunk('a'));
          setTimeout(() => response.destroy(), 20);
        },
        /in the middle of the answer/,
      ],
      [() => {}, /no end within 50 ms/],
    ];
    for (const [script, expected] of scripts) {
      const result = await runLoad(
        plan(await listen(script), { sessions: 2, target: { timeoutMs: script.length === 0 ? 50 : 0 } }),
      );
      assert.deepEqual(outcomes(result), { failed: 2 }, String(expected));
      assert.match(result.records[0]!.error!, expected);
    }
  });

  test('nothing listens: every request fails, and a warm-up says so before the run', async () => {
    const url = 'http://127.0.0.1:9';
    assert.deepEqual(outcomes(await runLoad(plan(url))), { failed: 20 });
    await assert.rejects(runLoad(plan(url, { warmupSessions: 1 })), {
      code: 'LOAD_TARGET_UNREACHABLE',
      message: /ECONNREFUSED.*start the server/,
    });
  });

  test('several processes share one load', async () => {
    const url = await listen(streaming(1));
    const result = await runLoad(plan(url, { workers: 3, sessions: 31 }));
    assert.deepEqual(outcomes(result), { completed: 31 });
    assert.deepEqual(new Set(result.records.map(({ worker }) => worker)), new Set([0, 1, 2]));
    assert.ok(result.records.every(({ session, worker }) => session % 3 === worker));
    assert.ok(mostInFlight(result.records) <= 4);
    assert.ok(result.clientCpu.userMs > 0);
  });

  for (const workers of [1, 2]) {
    test(`an abort ends it and keeps what there is (${workers} workers)`, async () => {
      const url = await listen(streaming(5));
      const controller = new AbortController();
      const output = { distribution: 'normal' as const, mean: 20, spread: 0 };
      let seen = 0;
      const result = await runLoad(plan(url, { workers, sessions: 100_000, workload: { output } }), {
        signal: controller.signal,
        onRecord: () => {
          seen++;
          if (seen === 8) controller.abort();
        },
      });
      assert.ok(result.isInterrupted);
      const counts = outcomes(result);
      assert.ok(counts.completed! >= 8);
      assert.ok(counts.stopped! >= 1, JSON.stringify(counts));
    });
  }

  test('a duration ends it gently: what was sent completes', async () => {
    const url = await listen(streaming(2));
    const result = await runLoad(plan(url, { sessions: undefined, durationMs: 150 }));
    assert.deepEqual(Object.keys(outcomes(result)), ['completed']);
    assert.ok(result.records.length >= 4);
  });

  test('limits have names, and are checked before anything is sent', async () => {
    const refused = (changes: Changes, message: RegExp): Promise<void> =>
      assert.rejects(runLoad(plan('http://127.0.0.1:9', changes)), { code: 'LOAD_OPTION_INVALID', message });
    await refused({ sessions: requestsMax + 1 }, /requests/);
    await refused({ pace: { kind: 'closed', concurrency: concurrencyMax + 1 } }, /concurrency/);
    await refused({ workers: workersMax + 1 }, /workers/);
    await refused({ workers: 5 }, /in flight at least/);
    await refused({ durationMs: 0 }, /duration/);
    await refused({ target: { url: 'ftp://x' } }, /no http URL/);
    await refused(
      { sessions: undefined, pace: { kind: 'open', arrivals: { kind: 'at-once' } } },
      /needs a number/,
    );
  });
});

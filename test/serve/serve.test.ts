import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoPath } from 'grpc-health-check';
import { packageRoot } from '../../src/base/entry.ts';
import { endsWithTests } from '../support/children.ts';
import { runCli } from '../support/run-cli.ts';

/** `bin/nereid serve` as a user runs it: real processes, real ports, the embedded model; the null device where maths does not matter. */
const cache = join(packageRoot, '.cache/serve-test');
const environment = {
  ...process.env,
  NODE_OPTIONS: '',
  NEREID_FROM_SOURCE: '1',
  NEREID_OFFLINE: '1',
  NEREID_CACHE: cache,
};
const startTimeoutMs = 60_000;

interface RunningServer {
  child: ChildProcess;
  url: string;
  log: () => string;
}

async function serve(...flags: string[]): Promise<RunningServer> {
  const command = [join(packageRoot, 'bin/nereid'), 'serve', 'nereid-16m', '--http-port', '0', ...flags];
  const child = spawn(process.execPath, command, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  endsWithTests(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      text += chunk;
    });
  }
  const deadline = Date.now() + startTimeoutMs;
  for (;;) {
    const port = /on http:\/\/127\.0\.0\.1:(\d+)/.exec(text)?.[1];
    if (port) return { child, url: `http://127.0.0.1:${port}`, log: () => text };
    assert.equal(child.exitCode, null, text);
    assert.ok(Date.now() < deadline, text);
    await sleep(20);
  }
}

async function stop({ child }: RunningServer): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  child.kill('SIGINT');
  const [code] = await once(child, 'exit');
  return code;
}

function chat(url: string, fields: object = {}, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({
      messages: [{ role: 'user', content: 'What is a lighthouse?' }],
      temperature: 0,
      ...fields,
    }),
  });
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await sleep(50);
  }
}

/** Process ids of the server's engine processes. */
function engines({ child }: RunningServer): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
        return (
          parent === child.pid && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('engine-process')
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}

const linuxOnly = process.platform === 'linux' ? false : 'reads /proc';

describe('nereid serve', { concurrency: false }, () => {
  test('answers with the embedded model, on every port it was asked for, and stops on Ctrl-C', async () => {
    const server = await serve('--metrics-port', '0', '--grpc-port', '0', '--self-test', 'What is a river?');
    await until(() => server.log().includes('Ctrl-C stops'), 'the self-test');
    assert.match(server.log(), /> What is a river\?\nriver \(noun\)/);
    const answer = (await (await chat(server.url)).json()) as { choices: { message: { content: string } }[] };
    assert.match(answer.choices[0]?.message.content ?? '', /tower/);
    const metricsPort = /Started Metrics Service at 127\.0\.0\.1:(\d+)/.exec(server.log())?.[1];
    const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    assert.match(metrics, /vllm:request_success_total\{[^}]*stop[^}]*\} 2/);
    assert.equal((await fetch(`http://127.0.0.1:${metricsPort}/other`)).status, 404);
    const grpcPort = /Started GRPCInferenceService at 127\.0\.0\.1:(\d+)/.exec(server.log())?.[1];
    for (const service of ['', 'nereid-16m'])
      assert.equal(await grpcHealth(Number(grpcPort), service), 'SERVING');
    assert.equal(await stop(server), 0);
  });

  test('a second server on the same port says so in one line and leaves the first alone', async () => {
    const server = await serve('--device', 'null', '--log-level', 'error');
    const port = new URL(server.url).port;
    const second = await runCli(
      ['serve', 'nereid-16m', '--device', 'null', '--http-port', port, '--log-level', 'error'],
      {
        env: environment,
      },
    );
    assert.equal(second.code, 1);
    assert.match(
      second.stderr,
      new RegExp(`^nereid: port ${port} is in use; .*--http-port.*\\[PORT_IN_USE\\]\\n$`),
    );
    assert.equal((await fetch(`${server.url}/health/ready`)).status, 200);
    assert.equal(await stop(server), 0);
  });

  for (const frontEnds of ['1', '2']) {
    test(`Ctrl-C lets a running stream finish (front ends: ${frontEnds})`, async () => {
      const flags = ['--device-option', 'step-ms=20', '--log-level', 'error', '--front-ends', frontEnds];
      const server = await serve('--device', 'null', ...flags);
      const response = await chat(server.url, { max_tokens: 60, stream: true, ignore_eos: true });
      const body = response.text();
      const exit = once(server.child, 'exit');
      server.child.kill('SIGINT');
      const events = (await body).split('\n\n');
      assert.equal(events.at(-2), 'data: [DONE]');
      assert.equal((await exit)[0], 0);
    });
  }

  test('an engine killed under load: its requests fail, readiness flips, it comes back', {
    skip: linuxOnly,
  }, async () => {
    const server = await serve('--device', 'null', '--device-option', 'step-ms=20', '--log-level', 'silent');
    const whole = chat(server.url, { max_tokens: 900, ignore_eos: true });
    const stream = await chat(server.url, { max_tokens: 900, stream: true, ignore_eos: true });
    await sleep(200);
    const [pid] = engines(server);
    process.kill(pid as number, 'SIGKILL');
    assert.equal((await whole).status, 503);
    assert.match(await stream.text(), /"error":\{"message":"the engine stopped/);
    await until(async () => (await fetch(`${server.url}/health/ready`)).status === 200, 'ready again');
    assert.notEqual(engines(server)[0], pid);
    assert.equal((await chat(server.url, { max_tokens: 4 })).status, 200);
    await stop(server);
  });

  test('two front ends share the port and two engines; metrics add up', { skip: linuxOnly }, async () => {
    const flags = ['--front-ends', '2', '--engines', '2', '--metrics-port', '0', '--api-key', 'secret'];
    const server = await serve('--device', 'null', '--log-level', 'error', ...flags);
    assert.equal(engines(server).length, 2);
    assert.equal((await chat(server.url)).status, 401);
    const authorization = { authorization: 'Bearer secret' };
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => chat(server.url, { max_tokens: 5, ignore_eos: true }, authorization)),
    );
    assert.deepEqual(new Set(answers.map((answer) => answer.status)), new Set([200]));
    // Stored responses are found from either of them: connections go to both.
    const create = async (fields: object) => {
      const body = JSON.stringify({ max_output_tokens: 4, ...fields });
      const headers = { ...authorization, 'content-type': 'application/json', connection: 'close' };
      const response = await fetch(`${server.url}/v1/responses`, { method: 'POST', headers, body });
      return { status: response.status, body: (await response.json()) as { id: string } };
    };
    const first = await create({ input: 'Hello' });
    const follow = { input: 'More', previous_response_id: first.body.id };
    for (const { status, body } of await Promise.all(Array.from({ length: 8 }, () => create(follow)))) {
      assert.equal(status, 200, JSON.stringify(body));
    }
    const metricsPort = /Started Metrics Service at 127\.0\.0\.1:(\d+)/.exec(server.log())?.[1];
    // The HTTP port answers for all of them too, whichever front end is asked.
    const ask = async (url: string) => (await fetch(url, { headers: { connection: 'close' } })).text();
    const urls = [`http://127.0.0.1:${metricsPort}`, ...Array.from({ length: 4 }, () => server.url)];
    for (const metrics of await Promise.all(urls.map((url) => ask(`${url}/metrics`)))) {
      assert.match(metrics, /vllm:request_success_total\{[^}]*length[^}]*\} 21/);
      assert.match(metrics, /vllm:generation_tokens_total\{[^}]*\} 96/);
    }
    assert.equal(await stop(server), 0);
  });

  test('mistakes are one line with the fix', async () => {
    const cases: [string[], RegExp, number][] = [
      [
        ['serve', './missing.gguf'],
        /nereid: \.\/missing\.gguf does not exist; check the path \[MODEL_NOT_FOUND\]/,
        1,
      ],
      [['serve', 'nereid-61m'], /nereid-16m/, 1],
      [['serve', '--http-port', 'eighty'], /integer from 0 to 65535/, 2],
      [['serve', '--devise', 'ggml'], /--device/, 2],
      [['serve', 'nereid-16m', '--device', 'null', '--device-option', 'mode=odd'], /hash, echo or script/, 1],
      [['serve', 'nereid-16m', '--max-batch-tokens', '8'], /less than --max-sequences 32/, 1],
      [['serve', 'nereid-16m', 'nereid-16m', '--served-model-name', 'x'], /names one model/, 1],
    ];
    for (const [parameters, expected, code] of cases) {
      const outcome = await runCli([...parameters, '--log-level', 'error'], { env: environment });
      assert.match(outcome.stderr, expected, parameters.join(' '));
      assert.equal(outcome.stderr.trim().split('\n').length, 1, outcome.stderr);
      assert.ok(outcome.code === code || outcome.code === 2, `${parameters.join(' ')}: exit ${outcome.code}`);
    }
  });
});

function grpcHealth(port: number, service: string): Promise<string> {
  const definition = loadPackageDefinition(loadSync(protoPath, { enums: String }));
  // The loaded package is untyped by nature: grpc-js makes its client classes at run time.
  const { Health } = (
    definition as never as { grpc: { health: { v1: { Health: new (...args: unknown[]) => HealthClient } } } }
  ).grpc.health.v1;
  const client = new Health(`127.0.0.1:${port}`, credentials.createInsecure());
  return new Promise((resolve, reject) => {
    client.Check({ service }, (error, reply) => {
      client.close();
      if (error) reject(error);
      else resolve(reply.status);
    });
  });
}

interface HealthClient {
  Check(request: { service: string }, done: (error: Error | null, reply: { status: string }) => void): void;
  close(): void;
}

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { startServe } from '../support/serve.ts';

/** The Makefile's targets of Briton's README, as far as they are quick. The Python clients themselves are in `test/foreign/briton.test.ts`. */

interface Outcome {
  code: number | null;
  output: string;
}

/** Runs make; what it would build is taken as built (the test run's `make test` did). */
function make(...words: string[]): Promise<Outcome> {
  const built = ['node_modules/.installed', 'dist/.built', '.venv/examples/.installed'].flatMap((file) => [
    '-o',
    file,
  ]);
  const env = {
    ...process.env,
    NODE_OPTIONS: '',
    NEREID_FROM_SOURCE: '1',
    NEREID_OFFLINE: '1',
    MAKEFLAGS: '',
  };
  return new Promise((resolve, reject) => {
    const child = spawn('make', ['--no-print-directory', ...built, ...words], { cwd: packageRoot, env });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (bytes: Buffer) => {
        output += bytes.toString();
      });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}

test('test_server_client_flow: a server, one request, its answer', async () => {
  const { code, output } = await make('test_server_client_flow', 'MODEL=nereid-16m');
  assert.equal(code, 0, output);
  assert.match(output, /server-client flow: [1-9]\d* tokens, completed/);
});

test('run_client and run_load_client: load at the address that is given', async () => {
  const server = await startServe('make-test', [
    '--device',
    'null',
    '--briton-port',
    '0',
    '--log-level',
    'error',
  ]);
  try {
    const address = /on (\S+) \(Briton gRPC\)/.exec(server.log())?.[1];
    for (const target of ['run_client', 'run_load_client']) {
      const run = await make(target, `BRITON_ADDRESS=${address}`, 'LOAD=--concurrency 2 --requests 4');
      assert.equal(run.code, 0, run.output);
      assert.match(run.output, /Successful requests: +4 /);
    }
  } finally {
    await server.stop();
  }
});

test('load: without k6 it says what needs nothing', async () => {
  const empty = { PATH: '/nonexistent' };
  const run = await make(
    'load',
    `SHELL=/bin/sh`,
    ...Object.entries(empty).map(([name, value]) => `${name}=${value}`),
  );
  assert.notEqual(run.code, 0);
  assert.match(run.output, /k6 is not installed.*make run_load_client/);
});

test('the others run what they say', async () => {
  const expected: Record<string, RegExp> = {
    run_server: /nereid serve .*--briton-port 50051/,
    run_server_tp2: /nereid serve .*--briton-port 50051.* --tensor-parallel 2/,
    run_python_client: /briton_client\.py --address 127\.0\.0\.1:50051/,
    run_python_load_client: /briton_load_client\.py --address/,
    lint: /npm run -s typecheck/,
    test: /tools\/test\.mjs/,
  };
  for (const [target, commands] of Object.entries(expected)) {
    const run = await make('-n', target);
    assert.equal(run.code, 0, run.output);
    assert.match(run.output, commands, target);
  }
});

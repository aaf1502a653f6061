import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { endsWithTests } from '../support/children.ts';
import * as attacks from './attacks.ts';
import { honest } from './clients.ts';
import {
  descriptorsOf,
  killTarget,
  memoryOf,
  startTarget,
  stopTarget,
  type Target,
  until,
} from './server.ts';

/** The short form of every attack that once took the server down; `npm run soak` has the long one. */
const linuxOnly = process.platform === 'linux' ? false : 'reads /proc';
const nullDevice = ['--device', 'null', '--device-option', 'step-ms=1', '--log-level', 'error'];
/** Generous: the machine may be busy with other tests. */
const honestMs = 30_000;
const bytesMax = 600e6;

const folder = mkdtempSync(join(tmpdir(), 'nereid-abuse-'));
const targets: Target[] = [];
after(async () => {
  for (const target of targets) await killTarget(target);
  rmSync(folder, { recursive: true, force: true });
});

async function start(
  flags: readonly string[],
  options: Parameters<typeof startTarget>[1] = {},
): Promise<Target> {
  const target = await startTarget(flags, options);
  targets.push(target);
  return target;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const hasPrlimit = ((): boolean => {
  try {
    execFileSync('prlimit', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

describe('attacks on a server', { concurrency: false, skip: linuxOnly }, () => {
  test('answers that nobody reads, dead pipelines, half-sent requests, costly bodies: memory and descriptors stay', async () => {
    const target = await start(nullDevice);
    await honest(target);
    await attacks.unreadDetokenize(target, { clients: 4, honestMs });
    await attacks.unreadAnswers(target, { clients: 4, honestMs });
    await attacks.pipelined(target, { clients: 300, honestMs });
    await attacks.halfSent(target, { clients: 1_000, honestMs });
    await attacks.costlyBodies(target, { clients: 1, honestMs });
    await attacks.leavingPrompts(target, { clients: 2, honestMs });
    const { peak } = memoryOf(target.child.pid);
    assert.ok(peak < bytesMax, `${peak} bytes of memory`);
    assert.ok(descriptorsOf(target.child.pid) < 100);
    assert.equal(await stopTarget(target), 0);
  });

  test('a stopped engine, a killed engine, a deleted folder, no descriptors, disk or memory: it comes back and can be stopped', async () => {
    const own = join(folder, 'x'.repeat(20));
    mkdirSync(own);
    const target = await start(nullDevice, { env: { TMPDIR: own } });
    const sockets = (): string[] => readdirSync(own).filter((name) => /^nereid-(engine|served)-/.test(name));
    assert.equal(sockets().length, 2);
    await attacks.stoppedEngine(target, { clients: 8, honestMs });
    await attacks.killedEngine(target, { clients: 8, honestMs });
    await attacks.deletedFolder(target, own);
    if (hasPrlimit) {
      await attacks.noDescriptors(target, 3);
      await attacks.noDisk(target);
      await attacks.noMemory(target);
    }
    assert.equal(await stopTarget(target), 0);
    assert.deepEqual(sockets(), []);
  });

  test('a log that cannot be written costs lines, not the server, and it can be stopped', async () => {
    const port = await freePort();
    const full = openSync('/dev/full', 'w');
    const command = ['serve', 'nereid-16m', '--device', 'null', '--http-port', String(port)];
    const child = spawn(process.execPath, [join(packageRoot, 'bin/nereid'), ...command], {
      env: {
        ...process.env,
        NODE_OPTIONS: '',
        NEREID_FROM_SOURCE: '1',
        NEREID_OFFLINE: '1',
        NEREID_CACHE: join(packageRoot, '.cache/serve-test'),
      },
      stdio: ['ignore', full, full],
    });
    closeSync(full);
    endsWithTests(child);
    const target = { child, port, url: `http://127.0.0.1:${port}`, log: () => '' };
    const asking = async (): Promise<number> => (await honest(target).catch(() => ({ status: 0 }))).status;
    await until(async () => (await asking()) === 200, 'it serves', 120_000);
    assert.equal(await stopTarget(target), 0);
  });

  test('a temporary folder with a long name, or none that can be written, does not matter', async () => {
    const long = join(folder, 'y'.repeat(100));
    mkdirSync(long);
    for (const TMPDIR of [long, join(folder, 'missing')]) {
      const [first, second] = await Promise.all([
        start(nullDevice, { env: { TMPDIR } }),
        start(nullDevice, { env: { TMPDIR } }),
      ]);
      await attacks.killedEngine(first, { clients: 2, honestMs });
      assert.equal((await honest(second)).status, 200);
      await Promise.all([stopTarget(first), stopTarget(second)]);
    }
  });

  test('front ends that are killed while a scraper asks come back, none of it costs the others', async () => {
    const target = await start([...nullDevice, '--front-ends', '2', '--metrics-port', '0']);
    await attacks.scrapedStart(target);
    assert.equal(await stopTarget(target), 0);
  });

  test('a model folder with a regex and a template that never end harms only who asks for it', async () => {
    const model = join(folder, 'hostile');
    cpSync(join(packageRoot, 'models/nereid-16m'), model, { recursive: true });
    const path = join(model, 'tokenizer.json');
    const json = JSON.parse(readFileSync(path, 'utf8'));
    const split = { type: 'Split', pattern: { Regex: '(a+)+$|x' }, behavior: 'Isolated', invert: false };
    json.pre_tokenizer = { type: 'Sequence', pretokenizers: [split, json.pre_tokenizer] };
    writeFileSync(path, JSON.stringify(json));
    const doubled =
      '{% set ns = namespace(s="ab") %}{% for i in range(23) %}{% set ns.s = ns.s + ns.s %}{% endfor %}';
    const endless = `${doubled}{% for p in ns.s.split("a") %}{% for q in ns.s.split("b") %}{{ q }}{% endfor %}{% endfor %}`;
    writeFileSync(join(model, 'chat_template.jinja'), endless);
    const target = await start(nullDevice, { model });
    const post = async (route: string, body: object): Promise<number> => {
      const response = await fetch(target.url + route, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      await response.text();
      return response.status;
    };
    const hostile = [
      post('/v1/completions', { prompt: `${'a'.repeat(40)}!`, max_tokens: 1 }),
      post('/v1/chat/completions', { messages: [{ role: 'user', content: 'x' }] }),
    ];
    assert.equal(
      (await fetch(`${target.url}/health/live`, { signal: AbortSignal.timeout(10_000) })).status,
      200,
    );
    assert.equal(await post('/v1/completions', { prompt: 'b', max_tokens: 1 }), 200);
    assert.deepEqual(await Promise.all(hostile), [400, 400]);
    assert.equal(await stopTarget(target), 0);
  });
});

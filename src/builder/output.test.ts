import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';
import { newOwner } from './lock-owner.ts';
import { writeAtomically } from './output.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-output-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Larger than any process id of Linux (2^22): a builder that is no more. */
const deadPid = 2 ** 22 + 1;
const token = '00000000-0000-4000-8000-000000000000';

function engineAt(name: string): (partial: string) => Promise<void> {
  return async (partial) => writeFileSync(join(partial, 'engine.json'), name);
}

test('the folder appears when the work is done, and nothing else stays', async () => {
  const target = join(folder, 'deep', 'a');
  await writeAtomically(target, false, async (partial) => {
    assert.equal(existsSync(target), false);
    await engineAt('first')(partial);
  });
  assert.deepEqual(readdirSync(join(folder, 'deep')), ['a']);
  assert.equal(readFileSync(join(target, 'engine.json'), 'utf8'), 'first');
});

test('failed work leaves nothing', async () => {
  const parent = join(folder, 'b');
  const work = writeAtomically(join(parent, 'out'), false, async (partial) => {
    await engineAt('x')(partial);
    throw new Error('half-way');
  });
  await assert.rejects(work, /half-way/);
  assert.deepEqual(readdirSync(parent), []);
});

test('an engine is replaced only when asked to; other folders and files never', async () => {
  const target = join(folder, 'c');
  await writeAtomically(target, false, engineAt('old'));
  await assert.rejects(
    writeAtomically(target, false, engineAt('new')),
    /already holds an engine; pass --force/,
  );
  await writeAtomically(target, true, engineAt('new'));
  assert.equal(readFileSync(join(target, 'engine.json'), 'utf8'), 'new');
  const precious = join(folder, 'precious');
  mkdirSync(precious);
  writeFileSync(join(precious, 'thesis.txt'), '');
  await assert.rejects(writeAtomically(precious, true, engineAt('x')), { code: 'BUILD_OUTPUT_EXISTS' });
  await assert.rejects(writeAtomically(join(precious, 'thesis.txt'), true, engineAt('x')), /is a file/);
});

test('two builders of one output: the second is told who is at it', async () => {
  const target = join(folder, 'd');
  await writeAtomically(target, false, async (partial) => {
    await assert.rejects(writeAtomically(target, false, engineAt('x')), {
      code: 'BUILD_OUTPUT_LOCKED',
      message: new RegExp(`process ${process.pid} is building`),
    });
    await engineAt('first')(partial);
  });
});

function namesOf(target: string): string[] {
  return readdirSync(folder).filter((name) => name.startsWith(basename(target)));
}

for (const [who, pid] of [
  ['another process', deadPid],
  ["this builder's own id, as in containers", process.pid],
] as const) {
  test(`what a killed builder left is swept away: its locks and its half-made folder (${who})`, async () => {
    const target = join(folder, `e${pid}`);
    const dead = JSON.stringify({ ...newOwner(), pid, token });
    mkdirSync(`${target}.partial-${pid}-${token}`);
    for (const name of ['.lock', `.lock-${token}`, `.lock-stale-${token}`])
      writeFileSync(target + name, dead);
    await writeAtomically(target, false, engineAt('x'));
    assert.deepEqual(namesOf(target), [basename(target)]);
  });
}

test('a lock that names no owner is taken over', async () => {
  const target = join(folder, 'unnamed');
  writeFileSync(`${target}.lock`, `${process.pid}\n`);
  await writeAtomically(target, false, engineAt('x'));
  assert.deepEqual(namesOf(target), ['unnamed']);
});

test('a builder that lost its lock publishes nothing and leaves the lock of the other', async () => {
  const target = join(folder, 'lost');
  const other = JSON.stringify({ ...newOwner(), token });
  const work = writeAtomically(target, false, async (partial) => {
    await engineAt('x')(partial);
    rmSync(`${target}.lock`);
    writeFileSync(`${target}.lock`, other);
  });
  await assert.rejects(work, { code: 'BUILD_OUTPUT_LOCKED', message: /another process took over/ });
  assert.deepEqual(namesOf(target), ['lost.lock']);
});

test('a folder that cannot be made is an error with the fix', async () => {
  await assert.rejects(writeAtomically('/proc/absent/out', false, engineAt('x')), {
    code: 'BUILD_OUTPUT_UNWRITABLE',
  });
  writeFileSync(join(folder, 'file'), '');
  await assert.rejects(writeAtomically(join(folder, 'file', 'out'), false, engineAt('x')), {
    code: 'BUILD_OUTPUT_UNWRITABLE',
    message: /change its permissions or write elsewhere: --output of nereid build/,
  });
});

test('an engine that a killed builder had moved aside comes back, or goes where a new one stands', async () => {
  const target = join(folder, 'aside');
  const old = `${target}.old-${deadPid}-${token}`;
  const users = `${target}.old-2024`;
  mkdirSync(users);
  mkdirSync(old);
  await engineAt('old')(old);
  await assert.rejects(writeAtomically(target, false, engineAt('x')), /already holds an engine/);
  assert.equal(readFileSync(join(target, 'engine.json'), 'utf8'), 'old');
  mkdirSync(old);
  await writeAtomically(target, true, engineAt('new'));
  assert.equal(readFileSync(join(target, 'engine.json'), 'utf8'), 'new');
  assert.deepEqual(namesOf(target), ['aside', basename(users)]);
});

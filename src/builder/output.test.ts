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
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeAtomically } from './output.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-output-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Larger than any process id of Linux (2^22): a builder that is no more. */
const deadPid = 2 ** 22 + 1;

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

test('what a killed builder left is swept away: its lock and its half-made folder', async () => {
  const target = join(folder, 'e');
  mkdirSync(`${target}.partial-${deadPid}`);
  writeFileSync(`${target}.lock`, `${deadPid}\n`);
  await writeAtomically(target, false, engineAt('x'));
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('e')),
    ['e'],
  );
});

test('a folder that cannot be made is an error with the fix', async () => {
  await assert.rejects(writeAtomically('/proc/absent/out', false, engineAt('x')), {
    code: 'BUILD_OUTPUT_UNWRITABLE',
  });
  writeFileSync(join(folder, 'file'), '');
  await assert.rejects(writeAtomically(join(folder, 'file', 'out'), false, engineAt('x')), {
    code: 'BUILD_OUTPUT_UNWRITABLE',
    message: /choose another --output/,
  });
});

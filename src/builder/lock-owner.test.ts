import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { definite } from '../base/errors.ts';
import { foreignLockMsMax, heldTokens, isOwnerAlive, newOwner, ownerOf, parseOwner } from './lock-owner.ts';

test('an owner survives its text; other texts are none', () => {
  const owner = newOwner();
  assert.deepEqual(parseOwner(JSON.stringify(owner)), JSON.parse(JSON.stringify(owner)));
  for (const text of ['', '17\n', '{}', 'null', '{"pid":-1,"hostName":"a","token":"b"}'])
    assert.equal(parseOwner(text), undefined, text);
});

test('this process owns the locks whose tokens it holds, no other of its id', () => {
  const owner = newOwner();
  assert.equal(isOwnerAlive(owner, 0), false);
  heldTokens.add(owner.token);
  assert.equal(isOwnerAlive(owner, 0), true);
  heldTokens.delete(owner.token);
});

const noProc = !newOwner().startTime && 'this system has no /proc';

test('another process is known by boot and start time, not by its id alone', { skip: noProc }, async () => {
  const child = spawn(process.execPath, ['-e', 'process.stdin.resume()'], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  await once(child, 'spawn');
  const owner = ownerOf(definite(child.pid, 'its id'));
  assert.equal(isOwnerAlive(owner, 0), true);
  assert.equal(isOwnerAlive({ ...owner, startTime: '1' }, 0), false);
  assert.equal(isOwnerAlive({ ...owner, bootId: 'an earlier boot' }, 0), false);
  // Where the start was not recorded the id must do.
  assert.equal(isOwnerAlive({ ...owner, startTime: undefined }, 0), true);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(isOwnerAlive(owner, 0), false);
});

test('a lock of another host is alive while it is touched', () => {
  const owner = { ...newOwner(), hostName: 'elsewhere' };
  assert.equal(isOwnerAlive(owner, foreignLockMsMax), true);
  assert.equal(isOwnerAlive(owner, foreignLockMsMax + 1), false);
});

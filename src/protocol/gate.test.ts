import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Gate } from './gate.ts';

test('so many tasks run at a time, in the order they came, and a failed one gives its place back', async () => {
  const gate = new Gate(2);
  const began: number[] = [];
  const ends: ((failed?: Error) => void)[] = [];
  const runs = [0, 1, 2, 3].map((task) =>
    gate.run(
      () =>
        new Promise<number>((resolve, reject) => {
          began.push(task);
          ends[task] = (failed) => (failed ? reject(failed) : resolve(task));
        }),
    ),
  );
  await turn();
  assert.deepEqual(began, [0, 1]);
  ends[1]?.(new Error('broken'));
  await assert.rejects(runs[1] as Promise<number>, /broken/);
  await turn();
  assert.deepEqual(began, [0, 1, 2]);
  ends[0]?.();
  await turn();
  assert.deepEqual(began, [0, 1, 2, 3]);
  ends[2]?.();
  ends[3]?.();
  assert.deepEqual(await Promise.all([runs[0], runs[2], runs[3]]), [0, 2, 3]);
});

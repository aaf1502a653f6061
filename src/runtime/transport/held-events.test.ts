import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FileStore } from '../outputs/file-segment.ts';
import type { Outputs } from '../outputs/output-rows.ts';
import type { SequenceEvent } from '../requests/events.ts';
import { HeldEvents } from './held-events.ts';

const eventOf = (requestId: number, tokens: number[], outputs?: Outputs): SequenceEvent => ({
  requestId,
  sequence: 0,
  tokens,
  ...(outputs && { outputs }),
});

test('events of a request stay in order behind one whose rows are read; others are not held', async (t) => {
  const store = new FileStore(1024);
  t.after(() => store.close());
  const room = store.open(1, 64);
  room.ask();
  room.write(0, Float32Array.of(1, 2, 3, 4));
  const delivered: SequenceEvent[] = [];
  let resolve = (): void => {};
  const promise = new Promise<void>((run) => {
    resolve = run;
  });
  const held = new HeldEvents({
    deliver: (event) => {
      delivered.push(event);
      if (delivered.length === 3) resolve();
    },
    failed: (_, error) => assert.fail(error),
  });
  assert.ok(held.hold(eventOf(1, [10], { generationLogits: room.read(0, 1, 4) })));
  assert.ok(held.hold(eventOf(1, [11])));
  assert.ok(held.hold(eventOf(1, [12])));
  assert.equal(held.hold(eventOf(2, [20])), false);
  await promise;
  assert.deepEqual(
    delivered.map(({ tokens }) => tokens[0]),
    [10, 11, 12],
  );
  assert.deepEqual(delivered[0]?.outputs, {
    generationLogits: { rows: 1, width: 4, values: Float32Array.of(1, 2, 3, 4) },
  });
  await new Promise((later) => setImmediate(later));
  assert.equal(held.hold(eventOf(1, [13])), false);
});

test('rows that cannot be read fail their request', async () => {
  let resolve = (_: string): void => {};
  const promise = new Promise<string>((run) => {
    resolve = run;
  });
  const held = new HeldEvents({
    deliver: () => assert.fail('nothing was read'),
    failed: (requestId, { code }) => resolve(`${requestId} ${code}`),
  });
  const reference = { rows: 1, width: 1, path: '/nonexistent/rows', offset: 0 };
  assert.ok(held.hold(eventOf(3, [1], { contextLogits: reference })));
  assert.equal(await promise, '3 OUTPUTS_UNREADABLE');
});

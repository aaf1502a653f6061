import assert from 'node:assert/strict';
import { test } from 'node:test';
import { finishAll, open, prompt } from '../../../test/support/audited-run.ts';
import { outcomesAlone, requestOf } from '../../../test/support/engine-simulator.ts';

test('a prefix in the cache is copied or taken over, not computed, and changes no token', async () => {
  const { core, model, outcomes } = await open();
  const shared = prompt(64);
  core.submit(requestOf({ id: 1, promptTokens: shared }));
  await finishAll(core);
  const follow = requestOf({
    id: 2,
    promptTokens: Int32Array.of(...shared, ...outcomes.of(1, 0).tokens, 7, 8),
  });
  core.submit(follow);
  await finishAll(core);
  // The first request's last token was never computed; the rest of it was taken over in place.
  assert.equal(outcomes.starts.get(2)?.cachedTokens, 64 + 4);
  assert.equal(model.copies, 0);
  assert.deepEqual([outcomes.of(2, 0)], await outcomesAlone(follow));
  const branch = requestOf({ id: 3, promptTokens: Int32Array.of(...shared.subarray(0, 32), 1, 1, 1) });
  core.submit(branch);
  await finishAll(core);
  assert.equal(outcomes.starts.get(3)?.cachedTokens, 32);
  assert.equal(model.copies, 1, 'half of a retained slot is copied, so that the whole stays for others');
  assert.deepEqual([outcomes.of(3, 0)], await outcomesAlone(branch));
  const { prefixHits, prefixQueries, cachedPromptTokens } = core.statistics();
  assert.deepEqual([prefixHits, prefixQueries, cachedPromptTokens], [100, 64 + 71 + 35, 100]);
});

for (const blockPositions of [undefined, 16]) {
  test(`requests that come together with one new prefix compute it once (${blockPositions ? 'blocks' : 'slots'})`, async () => {
    const options = { slots: 8, blockPositions, batchTokensMax: 32, sharedPrefixPositionsMin: 64 };
    const { core, outcomes } = await open(options);
    const shared = prompt(112);
    const requests = Array.from({ length: 6 }, (_, id) =>
      requestOf({ id, promptTokens: Int32Array.from([...shared, 901 + id, id]) }),
    );
    const other = requestOf({ id: 6, promptTokens: prompt(100, 300) });
    for (const request of [...requests, other]) core.submit(request);
    await finishAll(core);
    const { promptTokens, cachedPromptTokens } = core.statistics();
    assert.deepEqual([promptTokens, cachedPromptTokens], [6 * 114 + 100, 5 * 112]);
    for (const request of [...requests, other]) {
      assert.deepEqual(outcomes.of(request.id, 0), (await outcomesAlone(request))[0]);
    }
  });
}

test('who waits for a prefix goes on when the one that computes it is cancelled, and computes it for the others', async () => {
  const { core, outcomes } = await open({ slots: 4, batchTokensMax: 16, sharedPrefixPositionsMin: 32 });
  const shared = prompt(96);
  for (let id = 0; id < 3; id++)
    core.submit(requestOf({ id, promptTokens: Int32Array.from([...shared, 901 + id]) }));
  for (let step = 0; step < 2; step++) await core.step();
  assert.equal(core.statistics().runningSequences, 1);
  core.cancel(0);
  await finishAll(core);
  assert.equal(outcomes.of(0, 0).finish, 'cancelled');
  assert.deepEqual([outcomes.of(1, 0).tokens.length, outcomes.of(2, 0).tokens.length], [5, 5]);
  assert.ok(core.statistics().cachedPromptTokens >= 96, 'the third takes it from the second');
});

test('nobody waits for a less urgent one, and no static batch waits for itself', async () => {
  const shared = prompt(96);
  const request = (id: number, priority: number) =>
    requestOf({ id, priority, promptTokens: Int32Array.from([...shared, 901 + id]) });
  const urgent = await open({ slots: 4, batchTokensMax: 16, sharedPrefixPositionsMin: 32 });
  urgent.core.submit(request(0, 0));
  await urgent.core.step();
  urgent.core.submit(request(1, 1));
  await urgent.core.step();
  assert.equal(urgent.core.statistics().runningSequences, 2);
  const fixed = await open({
    slots: 4,
    batchTokensMax: 16,
    sharedPrefixPositionsMin: 32,
    capacityPolicy: 'static_batch',
  });
  for (let id = 0; id < 3; id++) fixed.core.submit(request(id, 0));
  await fixed.core.step();
  assert.equal(fixed.core.statistics().runningSequences, 3);
});

test('a whole prompt in the cache still computes its last token; too short a prefix is not copied', async () => {
  const { core, outcomes } = await open();
  for (const id of [1, 2]) {
    core.submit(requestOf({ id, promptTokens: prompt(40) }));
    await finishAll(core);
  }
  core.submit(requestOf({ id: 3, promptTokens: Int32Array.of(...prompt(15), 3, 3, 3) }));
  await finishAll(core);
  assert.deepEqual(
    [1, 2, 3].map((id) => outcomes.starts.get(id)?.cachedTokens),
    [0, 39, 0],
  );
  assert.deepEqual(outcomes.of(1, 0), outcomes.of(2, 0));
});

test('different salts share nothing, and neither does anyone with reuse off', async () => {
  const { core, outcomes } = await open();
  const salts = [undefined, 'a', 'b', 'a'];
  for (const [id, cacheSalt] of salts.entries()) {
    core.submit(requestOf({ id, promptTokens: prompt(40), cacheSalt }));
    await finishAll(core);
  }
  assert.deepEqual(
    salts.map((_, id) => outcomes.starts.get(id)?.cachedTokens),
    [0, 0, 0, 39],
  );
  const without = await open({ prefixReuse: false });
  for (const id of [1, 2]) {
    without.core.submit(requestOf({ id, promptTokens: prompt(40) }));
    await finishAll(without.core);
  }
  assert.equal(without.outcomes.starts.get(2)?.cachedTokens, 0);
  assert.equal(without.model.histories.size, 0, 'memory went back at once');
});

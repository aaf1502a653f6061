import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ServeOptions } from './options.ts';
import { checkRanks, checkWorld, ranksHere, seatOf } from './ranks.ts';

/** What these checks read of the options. */
const options = (changes: Partial<ServeOptions>): ServeOptions =>
  ({ models: ['model'], engines: 1, device: 'ggml', ...changes }) as ServeOptions;
const group = { worldSize: 2, rank: 1, leader: '10.0.0.1:29500' };

test('flags of a group on several hosts that do not fit each other are refused with the fix', () => {
  process.env.NEREID_RANK_SECRET = '0123456789abcdef';
  checkWorld(options({}));
  checkWorld(options(group));
  const cases: [Partial<ServeOptions>, RegExp][] = [
    [{ rank: 1 }, /give --world-size, too/],
    [{ worldSize: 2 }, /--world-size needs --rank .* and --leader/],
    [{ ...group, rank: 2 }, /--rank 2 is not below --world-size 2/],
    [{ ...group, engines: 2 }, /one model with one engine/],
    [{ ...group, leader: 'nowhere' }, /give host:port/],
  ];
  for (const [changes, expected] of cases) assert.throws(() => checkWorld(options(changes)), expected);
  process.env.NEREID_RANK_SECRET = 'short';
  assert.throws(() => checkWorld(options(group)), /set NEREID_RANK_SECRET to the same 16 or more/);
});

test('an engine is served as it is divided', () => {
  const two = { tensor: 2, pipeline: 1 };
  checkRanks(options({ tensorParallel: 2 }), 'model', two);
  checkRanks(options({ worldSize: 2 }), 'model', two);
  const refused = (changes: Partial<ServeOptions>, shape: typeof two, expected: RegExp) =>
    assert.throws(() => checkRanks(options(changes), 'model', shape), {
      code: 'CLI_VALUE_INVALID',
      message: expected,
    });
  refused({ tensorParallel: 4 }, two, /model is built for 2 tensor ranks × 1 stages, not 4 × 1/);
  refused({ worldSize: 4 }, two, /--world-size 4 is not 2 tensor ranks × 1 stages; give 2/);
});

test('a host of several has one seat, a host alone has all of them', () => {
  process.env.NEREID_RANK_SECRET = '0123456789abcdef';
  const shape = { tensor: 2, pipeline: 2 };
  assert.equal(seatOf(options({}), shape), undefined);
  assert.equal(ranksHere(options({}), shape), 4);
  assert.equal(ranksHere(options(group), shape), 1);
  assert.deepEqual(seatOf(options(group), shape), {
    rank: 1,
    parallelism: shape,
    leader: { host: '10.0.0.1', port: 29500 },
    secret: '0123456789abcdef',
  });
});

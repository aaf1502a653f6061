import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type EngineView, outstandingWeight, routingNames, routings } from './router.ts';

const engine = (tokensOutstanding: number, tokensKnown = 0): EngineView => ({
  tokensOutstanding,
  tokensKnown,
});
const request = { promptTokens: 1000, ordinal: 0 };

test('prefix: the longest known one, until its engine is too far ahead of the least loaded', () => {
  const { choose } = routings.prefix;
  assert.equal(choose([engine(0), engine(500, 320), engine(900, 800)], request), 2);
  const lead = 800 / outstandingWeight;
  assert.equal(choose([engine(0), engine(lead - 1, 800)], request), 1);
  assert.equal(choose([engine(0), engine(lead + 1, 800)], request), 0);
});

test('prefix: where nobody knows the prompt, the fewest tokens outstanding', () => {
  assert.equal(routings.prefix.choose([engine(30), engine(10), engine(20)], request), 1);
});

test('least-loaded: the fewest tokens outstanding, whatever is known; equal ones in turn', () => {
  const { choose } = routings['least-loaded'];
  assert.equal(choose([engine(11, 900), engine(10), engine(12, 999)], request), 1);
  const idle = [engine(0), engine(0), engine(0)];
  const chosen = [0, 1, 2, 3].map((ordinal) => choose(idle, { ...request, ordinal }));
  assert.deepEqual(chosen, [0, 1, 2, 0]);
});

test('round-robin: each in turn', () => {
  const members = [engine(1e9), engine(0, 1000)];
  const chosen = [4, 5, 6].map((ordinal) => routings['round-robin'].choose(members, { ...request, ordinal }));
  assert.deepEqual(chosen, [0, 1, 0]);
});

test('every routing chooses a member, and the same one for the same facts', () => {
  const view = fc.record({ tokensOutstanding: fc.nat(), tokensKnown: fc.nat(1000) });
  const views = fc.array(view, { minLength: 1, maxLength: 9 });
  fc.assert(
    fc.property(views, fc.nat(), fc.constantFrom(...routingNames), (members, ordinal, name) => {
      const { choose } = routings[name];
      const index = choose(members, { promptTokens: 1000, ordinal });
      assert.ok(Number.isInteger(index) && index >= 0 && index < members.length);
      assert.equal(choose(members, { promptTokens: 1000, ordinal }), index);
    }),
  );
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { capacityPolicy, capacityPolicyNames } from './capacity.ts';
import { emptyPlan, planBatch, type Schedulable } from './scheduler.ts';
import { compareUrgency, type Urgency, UrgencyQueue } from './urgency-queue.ts';

const schedulable: fc.Arbitrary<Schedulable & Urgency> = fc
  .record({
    priority: fc.integer({ min: 0, max: 3 }),
    arrival: fc.nat(1000),
    index: fc.nat(3),
    rowsReady: fc.oneof(fc.constant(0), fc.constant(1), fc.integer({ min: 1, max: 500 })),
    rowsOptional: fc.nat(6),
    rowsPerStepMax: fc.constantFrom(Number.POSITIVE_INFINITY, 32),
    tokensInFlight: fc.constantFrom(0, 0, 1),
  })
  .map((facts) => ({ ...facts, isGenerating: facts.rowsReady <= 1 }));

const running = fc
  .uniqueArray(schedulable, {
    selector: ({ arrival, index }) => `${arrival}/${index}`,
    minLength: 1,
    maxLength: 40,
  })
  .map((sequences) => sequences.sort(compareUrgency));

test('a plan keeps the budget, plans every generation row, and gives prompts the rest in order', () => {
  fc.assert(
    fc.property(running, fc.nat(200), (sequences, extra) => {
      const budget = sequences.length + extra;
      const plan = emptyPlan<Schedulable & Urgency>();
      planBatch(sequences, budget, plan);
      const planned = plan.sequences.map((sequence, index) => ({ sequence, rows: plan.rows[index]! }));
      const rows = planned.reduce((sum, one) => sum + one.rows, 0);
      assert.ok(rows <= budget);
      assert.equal(new Set(planned.map(({ sequence }) => sequence)).size, planned.length);
      for (const one of planned) {
        assert.ok(one.rows >= 1);
        assert.ok(one.rows <= Math.min(one.sequence.rowsReady, one.sequence.rowsPerStepMax));
      }
      const generating = sequences.filter(({ rowsReady }) => rowsReady === 1);
      assert.deepEqual(plan.sequences.slice(0, generating.length), generating);
      const prompts = sequences.filter(({ rowsReady }) => rowsReady > 1);
      const plannedPrompts = planned.slice(generating.length);
      assert.deepEqual(
        plannedPrompts.map(({ sequence }) => sequence),
        prompts.slice(0, plannedPrompts.length),
      );
      // Only the last planned prompt may get less than it could take, and nothing is left over while one waits.
      for (const one of plannedPrompts.slice(0, -1)) {
        assert.equal(one.rows, Math.min(one.sequence.rowsReady, one.sequence.rowsPerStepMax));
      }
      if (plannedPrompts.length < prompts.length) assert.equal(rows, budget);
    }),
  );
});

test('the queue stays in order and finds what it holds', () => {
  fc.assert(
    fc.property(running, fc.array(fc.nat(39)), (sequences, removals) => {
      const queue = new UrgencyQueue<Urgency>();
      const expected = new Set(sequences);
      for (const sequence of [...sequences].reverse()) queue.add(sequence);
      for (const index of removals) {
        const sequence = sequences[index % sequences.length]!;
        assert.equal(queue.remove(sequence), expected.delete(sequence));
      }
      assert.deepEqual(queue.items, [...expected].sort(compareUrgency));
    }),
  );
});

const claim = fc
  .record({
    arrival: fc.nat(1000),
    positionsKnown: fc.integer({ min: 1, max: 100 }),
    more: fc.integer({ min: 1, max: 100 }),
  })
  .map(({ more, ...facts }) => ({
    ...facts,
    positionsWorst: facts.positionsKnown + more,
    held: 0,
    places: 1,
  }));

test('capacity policies never promise more positions or sequences than there are, and always let somebody run', () => {
  const state = fc.record({
    name: fc.constantFrom(...capacityPolicyNames),
    waiting: fc.array(claim, { maxLength: 30 }),
    sequencesMax: fc.integer({ min: 1, max: 10 }),
    positionsMax: fc.integer({ min: 200, max: 1000 }),
    growth: fc.array(fc.nat(99), { minLength: 10, maxLength: 10 }),
  });
  fc.assert(
    fc.property(state, ({ name, waiting, sequencesMax, positionsMax, growth }) => {
      const policy = capacityPolicy(name);
      type Claim = (typeof waiting)[number];
      const facts = {
        ...{ hasWaitingOfBegun: false, sequencesMax, admissionsMax: 100, isHeldBack: () => false },
        cost: (_: Claim, positions: number) => positions,
        growth: (one: Claim, positions: number) => Math.max(0, positions - one.held),
        held: (one: Claim) => one.held,
      };
      const first = policy.plan({ ...facts, running: [], waiting, unitsFree: positionsMax });
      assert.deepEqual(first.pause, []);
      assert.deepEqual(first.admit, waiting.slice(0, first.admit.length), 'in order, nobody passed over');
      assert.ok(first.admit.length > 0 || waiting.length === 0);
      // What was admitted grows by up to its worst; then the policy is asked again.
      const grown = first.admit.map((one, i) => ({
        ...one,
        held: policy.reservation(one),
        positionsKnown: Math.min(one.positionsWorst, one.positionsKnown + growth[i]!),
      }));
      const rest = waiting.slice(first.admit.length);
      const unitsFree = positionsMax - grown.reduce((sum, one) => sum + one.held, 0);
      const second = policy.plan({ ...facts, running: grown, waiting: rest, unitsFree });
      const kept = grown.filter((one) => !second.pause.includes(one));
      assert.ok(kept.length > 0 || grown.length === 0, 'the most urgent goes on');
      assert.deepEqual(kept, grown.slice(0, kept.length), 'the least urgent are paused');
      if (name !== 'max_utilization') assert.deepEqual(second.pause, []);
      const held = [...kept, ...second.admit].reduce((sum, one) => sum + policy.reservation(one), 0);
      assert.ok(held <= positionsMax);
      assert.ok(kept.length + second.admit.length <= sequencesMax);
    }),
  );
});

test('no policy admits more at once than it is told to', () => {
  const waiting = Array.from({ length: 50 }, (_, arrival) => ({
    arrival,
    positionsKnown: 1,
    positionsWorst: 2,
    places: 1,
  }));
  for (const name of capacityPolicyNames) {
    const { admit } = capacityPolicy(name).plan({
      ...{
        running: [],
        waiting,
        hasWaitingOfBegun: false,
        sequencesMax: 40,
        admissionsMax: 7,
        unitsFree: 999,
      },
      ...{ cost: () => 1, growth: () => 0, held: () => 0, isHeldBack: () => false },
    });
    assert.equal(admit.length, 7, name);
  }
});

test('steps of a device with stages share the generating sequences, and hold none whose token is on its way', () => {
  fc.assert(
    fc.property(running, fc.integer({ min: 2, max: 4 }), (sequences, stages) => {
      const plan = emptyPlan<Schedulable & Urgency>();
      planBatch(sequences, 10_000, plan, stages);
      const generating = sequences.filter(({ isGenerating }) => isGenerating);
      const planned = plan.sequences.filter(({ isGenerating }) => isGenerating);
      assert.ok(planned.every(({ tokensInFlight }) => tokensInFlight === 0));
      const free = generating.filter(
        ({ rowsReady, tokensInFlight }) => rowsReady > 0 && tokensInFlight === 0,
      );
      assert.deepEqual(planned, free.slice(0, Math.ceil(generating.length / stages)));
    }),
  );
});

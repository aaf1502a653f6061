import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DeltaQueue, deltasWaitingMax } from './delta-queue.ts';
import { DeltaJoiner } from './joined-deltas.ts';
import type { GenerationDelta } from './sequence-text.ts';

/** A sequence's deltas, each of so many tokens; the last one ends it. */
function deltas(sizes: readonly number[], sequence = 0): GenerationDelta[] {
  let tokenCount = 0;
  return sizes.map((size, step) => {
    const tokens = Array.from({ length: size }, () => tokenCount++);
    const logprobs = tokens.map((token) => ({
      logprob: -token,
      top: { tokens: new Int32Array(0), logprobs: new Float32Array(0) },
    }));
    const delta: GenerationDelta = {
      sequence,
      text: tokens.map((token) => `${token},`).join(''),
      tokens,
      logprobs,
      tokenCount,
    };
    return step === sizes.length - 1 ? { ...delta, finish: 'stop', stopReason: 'x' } : delta;
  });
}

/** What several deltas say together. */
function together(all: readonly GenerationDelta[]) {
  const last = all.at(-1);
  return {
    text: all.map(({ text }) => text).join(''),
    tokens: all.flatMap(({ tokens }) => tokens),
    logprobs: all.flatMap(({ logprobs }) => (logprobs ?? []).map(({ logprob }) => logprob)),
    tokenCount: last?.tokenCount,
    finish: last?.finish,
    stopReason: last?.stopReason,
  };
}

const sizes = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 40 });

test('joined deltas say the same; the first token and the end come at once, the rest every k steps', () => {
  fc.assert(
    fc.property(sizes, fc.integer({ min: 2, max: 7 }), (steps, interval) => {
      const joiner = new DeltaJoiner(interval);
      const made = deltas(steps);
      const frozen = structuredClone(made);
      const dueAt: number[] = [];
      const due = made.flatMap((delta, step) => {
        const one = joiner.push(delta);
        if (one) dueAt.push(step);
        return one ? [one] : [];
      });
      assert.deepEqual(together(due), together(made));
      assert.deepEqual(made, frozen);
      assert.equal(joiner.flush(), undefined);
      const first = steps.findIndex((size) => size > 0);
      if (first >= 0) assert.ok(dueAt.includes(first));
      assert.equal(dueAt.at(-1), steps.length - 1);
      const withTokens = steps.slice(first + 1).filter((size) => size > 0).length;
      const later = dueAt.filter((step) => step > first).length;
      if (first >= 0) assert.ok(later <= Math.floor(withTokens / interval) + 1);
    }),
  );
});

test('what is held back can be had at once', () => {
  const joiner = new DeltaJoiner(100);
  const [first, second, third] = deltas([1, 1, 1, 1]);
  assert.equal(joiner.push(first!), first);
  assert.equal(joiner.push(second!), undefined);
  assert.equal(joiner.push(third!), undefined);
  assert.equal(joiner.flush()?.text, '1,2,');
  assert.equal(joiner.flush(), undefined);
});

test('a queue that nobody empties keeps to its limit, joins the rest, and loses nothing of any sequence', () => {
  const queue = new DeltaQueue();
  const sequences = [0, 1, 2].map((sequence) => deltas(new Array(3 * deltasWaitingMax).fill(1), sequence));
  for (let step = 0; step < 3 * deltasWaitingMax; step++)
    for (const each of sequences) queue.push(each[step]!);
  assert.equal(queue.length, deltasWaitingMax + 3);
  const taken = Array.from({ length: queue.length }, () => queue.take()!);
  assert.equal(queue.take(), undefined);
  for (const [sequence, all] of sequences.entries()) {
    assert.deepEqual(together(taken.filter((each) => each.sequence === sequence)), together(all));
  }
});

test('however pushing and taking are mixed, each sequence comes whole and in order', () => {
  const mixed = fc.array(fc.tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 1, max: 9 })), {
    maxLength: 12,
  });
  fc.assert(
    fc.property(mixed, (turns) => {
      const queue = new DeltaQueue(8);
      const steps = [0, 1, 2].map((sequence) => deltas(new Array(120).fill(1), sequence));
      const pushed: GenerationDelta[][] = [[], [], []];
      const taken: GenerationDelta[] = [];
      for (const [sequence, count] of turns) {
        for (let index = 0; index < count; index++) {
          const delta = steps[sequence]![pushed[sequence]!.length]!;
          pushed[sequence]!.push(delta);
          queue.push(delta);
        }
        for (let index = 0; index < count / 3; index++) {
          const delta = queue.take();
          if (delta) taken.push(delta);
        }
      }
      for (let delta = queue.take(); delta; delta = queue.take()) taken.push(delta);
      for (const [sequence, all] of pushed.entries()) {
        const own = taken.filter((each) => each.sequence === sequence);
        assert.deepEqual(together(own), together(all));
      }
    }),
    { numRuns: 300 },
  );
});

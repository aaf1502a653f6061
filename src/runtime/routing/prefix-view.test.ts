import assert from 'node:assert/strict';
import { test } from 'node:test';
import { packPrefixes, prefixesPerMessageMax } from '../transport/messages.ts';
import { nothingKnown, PrefixView } from './prefix-view.ts';
import { PromptHashes } from './prompt-hashes.ts';

const chunk = 16;
const prompt = (length: number, key = '', from = 0) =>
  new PromptHashes(
    Int32Array.from({ length }, (_, index) => from + index),
    key,
    chunk,
  );
const hashesOf = (one: PromptHashes) => Array.from({ length: one.count }, (_, index) => one.at(index));
const stored = (one: PromptHashes) => ({ isSnapshot: false, stored: hashesOf(one), removed: [] });

test('what was stored is known from its beginning to where prompts part; the last token is never counted', () => {
  const view = new PrefixView();
  view.change(stored(prompt(64)));
  assert.equal(view.chunksKnown(prompt(49)), 3);
  assert.equal(view.chunksKnown(prompt(48)), 2);
  assert.equal(view.chunksKnown(prompt(200)), 3);
  assert.equal(view.chunksKnown(prompt(64, 'salt')), 0);
  assert.equal(view.chunksKnown(prompt(64, '', 1)), 0);
});

test('what was removed is not known, and a snapshot or a lost engine leaves nothing of before', () => {
  const view = new PrefixView();
  const whole = prompt(65);
  view.change(stored(whole));
  view.change({ isSnapshot: false, stored: [], removed: [whole.at(1)] });
  assert.equal(view.chunksKnown(whole), 1);
  view.change({ ...stored(prompt(33)), isSnapshot: true });
  assert.equal(view.chunksKnown(whole), 2);
  view.change(nothingKnown);
  assert.equal(view.chunksKnown(whole), 0);
});

test('what is on its way counts until the last such request is settled', () => {
  const view = new PrefixView();
  const [first, second] = [prompt(65), prompt(33)];
  const counts = [view.expect(first), view.expect(second)];
  assert.deepEqual(counts, [4, 2]);
  assert.equal(view.chunksKnown(first), 4);
  view.settle(first, 4);
  assert.equal(view.chunksKnown(first), 2);
  view.settle(second, 2);
  assert.equal(view.chunksKnown(first), 0);
});

test('no more than its limits is remembered, and room that is made is used', () => {
  const view = new PrefixView(4, 3);
  const known = prompt(1000);
  view.change(stored(known));
  assert.equal(view.size, 4);
  assert.equal(view.chunksKnown(known), 4);
  view.change({ isSnapshot: false, stored: [known.at(4)], removed: [known.at(3)] });
  assert.equal(view.size, 4);
  const other = prompt(1000, 'other');
  const count = view.expect(other);
  assert.equal(count, 3);
  assert.equal(view.expect(prompt(100, 'third')), 0);
  assert.equal(view.chunksKnown(other), 3);
  view.settle(other, count);
  assert.equal(view.chunksKnown(other), 0);
});

test('however many changes there are, they go in messages of a bounded size and arrive whole', () => {
  const range = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index);
  const before = range(0, 2 * prefixesPerMessageMax + 5);
  const view = new PrefixView(1e6);
  for (const message of packPrefixes({ stored: before, removed: [] }, true)) view.change(message);
  assert.equal(view.size, before.length);
  const after = {
    stored: range(1e6, prefixesPerMessageMax + 3),
    removed: range(0, prefixesPerMessageMax + 7),
  };
  const messages = packPrefixes(after);
  for (const message of messages) {
    assert.ok(message.stored.length + message.removed.length <= prefixesPerMessageMax);
    view.change(message);
  }
  assert.equal(view.size, before.length + after.stored.length - after.removed.length);
  assert.equal(packPrefixes({ stored: [1, 2], removed: [3] }).length, 1);
  assert.equal(packPrefixes({ stored: [], removed: [] }).length, 0);
  const [empty] = packPrefixes({ stored: [], removed: [] }, true);
  assert.equal(empty?.isSnapshot, true);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SequenceEvent } from '../requests/events.ts';
import { isEngineMessage } from './check-messages.ts';
import { packEvents, unpackEvents } from './messages.ts';

const events: SequenceEvent[] = [
  { requestId: 2 ** 51 + 3, sequence: 0, tokens: [5] },
  { requestId: 7, sequence: 2, tokens: [], finish: 'cancelled' },
  {
    requestId: 8,
    sequence: 1,
    tokens: [1, 2, 3],
    finish: 'stop',
    start: { seed: 1, cachedTokens: 0, queuedMs: 1, prefillMs: 2 },
  },
  {
    requestId: 9,
    sequence: 0,
    tokens: [4],
    logprobs: [{ logprob: -1, top: { tokens: Int32Array.of(4), logprobs: Float32Array.of(-1) } }],
  },
];

test('events come out as they went in', () => {
  const message = packEvents(events);
  assert.ok(isEngineMessage(message));
  const plain = (list: SequenceEvent[]) =>
    list.map((event) => Object.fromEntries(Object.entries(event).filter(([, value]) => value !== undefined)));
  assert.deepEqual(plain(unpackEvents(message)), plain(events));
  assert.deepEqual(unpackEvents(packEvents([])), []);
});

const adapterUse = { running: ['a'], waiting: [], slots: 8 };
const statistics = { atNs: 1, acceptedDraftsByPlace: [3, 1], adapters: adapterUse };
const prefixes = {
  kind: 'prefixes',
  isSnapshot: true,
  stored: new Float64Array(1),
  removed: new Float64Array(0),
};
const hello = { kind: 'hello', firstRequestId: 0, description: {}, statistics };

test('what an engine says is taken only in its shape', () => {
  const step = packEvents(events);
  for (const good of [step, prefixes, hello, { ...step, statistics }])
    assert.equal(isEngineMessage(good), true);
  const bad: unknown[] = [
    undefined,
    'step',
    { ...step, kind: 'leap' },
    { ...step, requestIds: [1, 2, 3, 4] },
    { ...step, sequences: step.sequences.subarray(1) },
    { ...step, tokenCounts: Uint16Array.of(1, 0, 3, 2) },
    { ...step, tokens: step.tokens.subarray(1) },
    { ...step, extras: [[4, {}]] },
    { ...step, extras: [[0.5, {}]] },
    { ...step, extras: [[0, undefined]] },
    { ...step, statistics: { atNs: 'now' } },
    { ...step, statistics: { atNs: 1, acceptedDraftsByPlace: ['1'] } },
    { ...step, statistics: { atNs: 1, adapters: { running: [1], waiting: [], slots: 1 } } },
    { ...prefixes, stored: [1] },
    { ...prefixes, isSnapshot: 1 },
    { ...hello, firstRequestId: -1 },
    { ...hello, description: undefined },
    { ...hello, statistics: undefined },
  ];
  for (const message of bad) assert.equal(isEngineMessage(message), false, JSON.stringify(message));
});

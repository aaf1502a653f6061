import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerBytesMax } from '../limits.ts';
import { EventStreamReader } from './event-stream-reader.ts';

const bytes = Buffer.from(
  'data: {"a":"äß🙂"}\n\n: a comment\nevent: x\r\ndata:two\r\ndata: lines\r\n\r\n\ndata: [DONE]\n\n',
);

test('events are the same wherever the bytes are cut', () => {
  for (let cut = 0; cut <= bytes.length; cut++) {
    const events: string[] = [];
    const reader = new EventStreamReader((data) => events.push(data));
    assert.ok(reader.push(bytes.subarray(0, cut)));
    assert.ok(reader.push(bytes.subarray(cut)));
    assert.deepEqual(events, ['{"a":"äß🙂"}', 'two\nlines', '[DONE]'], `cut at ${cut}`);
  }
});

test('a line without an end is refused', () => {
  const reader = new EventStreamReader(() => {});
  assert.ok(!reader.push(Buffer.alloc(answerBytesMax + 1, 'x')));
});

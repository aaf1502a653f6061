import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageMeter } from './message-meter.ts';

function message(length: number): Buffer {
  const bytes = Buffer.alloc(5 + length);
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

test('messages are followed however their bytes are cut', () => {
  const lengths = [0, 1, 300, 0, 7];
  const wire = Buffer.concat(lengths.map(message));
  for (const size of [1, 3, 5, 64, wire.length]) {
    const meter = new MessageMeter();
    for (let at = 0; at < wire.length; at += size) meter.take(wire.subarray(at, at + size));
    assert.deepEqual([meter.count, meter.partialBytes, meter.length], [lengths.length, 0, 0]);
  }
});

test('what is here of a message, and what it comes to', () => {
  const meter = new MessageMeter();
  meter.take(message(10).subarray(0, 3));
  assert.deepEqual([meter.count, meter.partialBytes, meter.length], [0, 3, 0]);
  meter.take(message(10).subarray(3, 9));
  assert.deepEqual([meter.count, meter.partialBytes, meter.length], [0, 9, 15]);
  meter.take(Buffer.concat([message(10).subarray(9), message(4).subarray(0, 6)]));
  assert.deepEqual([meter.count, meter.partialBytes, meter.length], [1, 6, 9]);
});

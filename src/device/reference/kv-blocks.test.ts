import assert from 'node:assert/strict';
import { test } from 'node:test';
import { operation } from '../../../test/device/steps.ts';
import type { KvDtype } from '../device.ts';
import { KvBlocks } from './kv-blocks.ts';

const spec = { layers: [{ kind: 'self' as const, keyElements: 2, valueElements: 1 }] };
const table = Int32Array.of(0, 1);

function filled(kvDtype: KvDtype = 'f32', blockPositions = 64): KvBlocks {
  const kv = new KvBlocks(spec, { blocks: 3, blockPositions, hostBlocks: 1 }, kvDtype);
  kv.extend(table, 3, 3);
  kv.write(table, 0, 0, Float32Array.of(1, 2, 3, 4, 5, 6.0001), Float32Array.of(7, 8, 9));
  return kv;
}

test('rows survive growth, and unwritten ones are NaN', () => {
  const kv = filled();
  kv.extend(table, 40, 37);
  const { keys } = kv.gather(table, 0, 40);
  assert.deepEqual([...keys.subarray(0, 5)], [1, 2, 3, 4, 5]);
  assert.ok(keys.subarray(6).every(Number.isNaN));
});

test('a sequence may lie in several blocks', () => {
  const { keys, values } = filled('f16', 2).gather(table, 0, 3);
  assert.deepEqual([...keys], [1, 2, 3, 4, 5, 6]);
  assert.deepEqual([...values], [7, 8, 9]);
});

test('f16 and fp8 round what is written', () => {
  assert.equal(filled('f16').gather(table, 0, 3).keys[5], 6);
  const kv = filled('fp8');
  assert.deepEqual([...kv.gather(table, 0, 3).keys.subarray(0, 6)], [1, 2, 3, 4, 5, 6]);
  kv.write(table, 0, 0, Float32Array.of(17, 500), Float32Array.of(-0.3));
  // Between 16 and 32 numbers are 2 apart, and ties go to the even one; the largest is 448.
  assert.deepEqual([...kv.gather(table, 0, 3).keys.subarray(0, 2)], [16, 448]);
  assert.equal(kv.gather(table, 0, 3).values[0], -0.3125);
});

test('q8_0 rounds to a scale for 32 elements, which is a half itself', () => {
  const wide = { layers: [{ kind: 'self' as const, keyElements: 64, valueElements: 32 }] };
  const kv = new KvBlocks(wide, { blocks: 1, blockPositions: 4, hostBlocks: 0 }, 'q8_0');
  const place = Int32Array.of(0);
  kv.extend(place, 1, 1);
  const keys = Float32Array.from(
    { length: 64 },
    (_, index) => (index < 32 ? 127 : 0.254) * (index % 2 ? 1 : -0.3),
  );
  kv.write(place, 0, 0, keys, new Float32Array(32));
  const stored = kv.gather(place, 0, 1);
  assert.deepEqual([...stored.keys.subarray(0, 2)], [-38, 127]);
  // 0.002 as a half is 0.0020008.
  for (const [at, multiple] of [-38, 127].entries()) {
    assert.ok(Math.abs(stored.keys[32 + at]! - multiple * 0.0020008) < 1e-5);
  }
  assert.ok(stored.values.subarray(0, 32).every((value) => value === 0));
  assert.throws(() => filled('q8_0'), /blocks of 32 elements.*--kv-dtype f16/);
});

test('a copy is independent of its source, which is poisoned when released', () => {
  const kv = filled();
  const held = kv.gather(table, 0, 3);
  kv.operate(operation('copy', 0, 2, 2));
  kv.operate(operation('release', 0));
  assert.ok(held.keys.every(Number.isNaN) && held.values.every(Number.isNaN));
  const copied = kv.gather(Int32Array.of(2), 0, 2);
  assert.deepEqual([...copied.keys], [1, 2, 3, 4]);
  assert.deepEqual([...copied.values], [7, 8]);
});

test('a block comes back from the host as it went', () => {
  const kv = filled();
  kv.operate(operation('toHost', 0, 0));
  kv.operate(operation('release', 0));
  kv.operate(operation('fromHost', 0, 2));
  assert.deepEqual([...kv.gather(Int32Array.of(2), 0, 3).values.subarray(0, 3)], [7, 8, 9]);
});

test('a step may rewrite positions but leave no hole; copies and blocks must exist', () => {
  const kv = filled();
  kv.extend(table, 3, 1);
  assert.throws(() => kv.extend(table, 6, 2), /block 0 holds 3 positions; a step continues at 4/);
  kv.operate(operation('release', 0));
  assert.throws(() => kv.extend(table, 3, 1), /block 0 holds 0 positions/);
  assert.throws(() => kv.operate(operation('copy', 0, 1, 1)), /block 0 holds 0 positions, not 1/);
  assert.throws(() => kv.operate(operation('release', 3)), /block 3 of 3/);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KvStore } from './kv-store.ts';

const spec = { layers: [{ kind: 'self' as const, keyElements: 2, valueElements: 1 }] };

function filled(kvDtype: 'f16' | 'f32' = 'f32'): KvStore {
  const kv = new KvStore(spec, { slots: 2, kvDtype });
  kv.extend(0, 3, 3);
  kv.write(kv.rows(0, 0).keys, 0, Float32Array.of(1, 2, 3, 4, 5, 6.0001), 2);
  kv.write(kv.rows(0, 0).values, 0, Float32Array.of(7, 8, 9), 1);
  return kv;
}

test('rows survive growth, and unwritten ones are NaN', () => {
  const kv = filled();
  kv.extend(0, 40, 37);
  assert.deepEqual([...kv.rows(0, 0).keys.subarray(0, 5)], [1, 2, 3, 4, 5]);
  assert.ok(kv.rows(0, 0).keys.subarray(6).every(Number.isNaN));
  assert.equal(kv.bytesPerPosition, 12);
});

test('f16 rounds what is written', () => {
  assert.equal(filled('f16').rows(0, 0).keys[5], 6);
});

test('a copy is independent of its source, which is poisoned when released', () => {
  const kv = filled();
  const held = kv.rows(0, 0);
  kv.copy(0, 1, 2);
  kv.release(0);
  assert.ok(held.keys.every(Number.isNaN) && held.values.every(Number.isNaN));
  assert.deepEqual([...kv.rows(1, 0).values.subarray(0, 3)], [7, 8, Number.NaN]);
  assert.deepEqual([...kv.rows(1, 0).keys.subarray(0, 4)], [1, 2, 3, 4]);
});

test('a step may rewrite positions but leave no hole; copies and slots must exist', () => {
  const kv = filled();
  kv.extend(0, 3, 1);
  assert.throws(() => kv.extend(0, 6, 2), /slot 0 holds 3 positions; a step continues at 4/);
  kv.release(0);
  assert.throws(() => kv.extend(0, 3, 1), /slot 0 holds 0 positions/);
  assert.throws(() => kv.copy(0, 1, 1), /slot 0 holds 0 positions, not 1/);
  assert.throws(() => kv.release(2), /slot 2 of 2/);
});

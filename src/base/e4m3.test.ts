import assert from 'node:assert/strict';
import { test } from 'node:test';
import { e4m3Max, e4m3Values, f32ToE4m3 } from './e4m3.ts';
import { SeededRandom } from './random.ts';

const codes = Array.from({ length: 256 }, (_, code) => code).filter((code) => (code & 0x7f) !== 0x7f);

test('every number has its code', () => {
  for (const code of codes) assert.equal(f32ToE4m3(e4m3Values[code]!), code, `code ${code}`);
  assert.equal(e4m3Values[0x38], 1);
  assert.equal(e4m3Values[0x7e], e4m3Max);
  assert.equal(e4m3Values[0x01], 2 ** -9);
});

test('any value goes to the nearest number, and of two equally near ones to the even', () => {
  const random = new SeededRandom(1);
  const values = Array.from({ length: 4000 }, () => (random.next() - 0.5) * 2 ** (random.integer(20) - 10));
  const positive = codes.filter((code) => code < 0x7f);
  for (const code of positive.slice(0, -1)) values.push((e4m3Values[code]! + e4m3Values[code + 1]!) / 2);
  for (const value of values) {
    const found = f32ToE4m3(value);
    const distance = Math.abs(e4m3Values[found]! - value);
    for (const code of codes) {
      const other = Math.abs(e4m3Values[code]! - value);
      assert.ok(other >= distance, `${value} is nearer to ${e4m3Values[code]} than to ${e4m3Values[found]}`);
      const isTie = other === distance && Math.abs(e4m3Values[code]!) !== Math.abs(e4m3Values[found]!);
      if (isTie) assert.equal(found & 1, 0, `${value}`);
    }
  }
});

test('what is too large becomes the largest number; NaN stays', () => {
  for (const value of [449, 1e9, Number.POSITIVE_INFINITY]) {
    assert.equal(f32ToE4m3(value), 0x7e);
    assert.equal(f32ToE4m3(-value), 0xfe);
  }
  assert.ok(Number.isNaN(e4m3Values[f32ToE4m3(Number.NaN)]));
});

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../base/entry.ts';
import { decodeFloats } from '../../checkpoint/floats.ts';
import { isQuantized, parseDType } from '../../graph/dtype.ts';
import { dequantizableTypes, dequantize } from './dequantize.ts';

interface Golden {
  types: Record<string, { bytes: string; values: string }>;
}

const path = join(packageRoot, 'test', 'goldens', 'dequantize.json');
const golden = JSON.parse(readFileSync(path, 'utf8')) as Golden;

test('every block type reads as the gguf package reads it', () => {
  assert.deepEqual(Object.keys(golden.types).sort(), dequantizableTypes.filter(isQuantized).sort());
  for (const [name, { bytes, values }] of Object.entries(golden.types)) {
    const expected = decodeFloats('f32', Buffer.from(values, 'base64'))!;
    const actual = dequantize(parseDType(name), Buffer.from(bytes, 'base64'));
    assert.equal(actual.length, expected.length, name);
    for (const [i, value] of expected.entries()) {
      // numpy rounds every product to float32; here only some are.
      const error = Math.abs(actual[i]! - value);
      assert.ok(
        error <= 2e-6 * Math.max(1, Math.abs(value)),
        `${name} element ${i}: ${actual[i]}, expected ${value}`,
      );
    }
  }
});

test('plain floats read as they are; a type that is not read is named', () => {
  assert.deepEqual([...dequantize('f32', new Uint8Array(floatBytes(1.5, -2)))], [1.5, -2]);
  assert.deepEqual([...dequantize('f16', Uint8Array.of(0, 0x3c))], [1]);
  assert.deepEqual([...dequantize('bf16', Uint8Array.of(0x80, 0x3f))], [1]);
  assert.throws(() => dequantize('iq2_xs', new Uint8Array(74)), /does not read iq2_xs; it reads f32, f16/);
});

function floatBytes(...values: number[]): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, index) => {
    view.setFloat32(index * 4, value, true);
  });
  return view.buffer;
}

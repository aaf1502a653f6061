import assert from 'node:assert/strict';
import { test } from 'node:test';
import { f16ToF32 } from '../../base/half.ts';
import { SeededRandom } from '../../base/random.ts';
import { type DType, rowBytes } from '../../graph/dtype.ts';
import { packageFolder } from './library.ts';
import { openQuantizer } from './quantize.ts';
import { installedGgmlRelease } from './release.ts';

const skip = installedGgmlRelease() === undefined && 'no ggml package is installed for this platform';
const rowElements = 512;
const rows = 300;

function randomRows(): Float32Array {
  const random = new SeededRandom(11);
  return Float32Array.from({ length: rows * rowElements }, () => random.next() * 2 - 1);
}

/** Relative L2 errors that uniform random values may have, by type: a bit more than seen. */
const errorMax: Partial<Record<DType, number>> = {
  f32: 0,
  f16: 3e-4,
  bf16: 3e-3,
  q8_0: 0.005,
  q6_k: 0.02,
  q5_0: 0.05,
  q4_1: 0.065,
  q4_0: 0.1,
  q4_k: 0.08,
};

test('every type that a build can make comes back within its error', { skip }, async () => {
  const quantizer = openQuantizer(packageFolder(), 2);
  const values = randomRows();
  for (const [name, bound] of Object.entries(errorMax)) {
    const dtype = name as DType;
    const bytes = await quantizer.encode(dtype, values, rowElements);
    assert.equal(bytes.length, rows * rowBytes(dtype, rowElements));
    const back = await quantizer.decode(dtype, bytes);
    let difference = 0;
    let norm = 0;
    for (const [i, value] of values.entries()) {
      difference += (value - (back[i] ?? 0)) ** 2;
      norm += value ** 2;
    }
    assert.ok(Math.sqrt(difference / norm) <= bound, `${dtype}: ${Math.sqrt(difference / norm)}`);
  }
});

test('the number of threads does not change a bit', { skip }, async () => {
  const values = randomRows();
  for (const dtype of ['q4_0', 'q4_k', 'q8_0'] as const) {
    const one = await openQuantizer(packageFolder(), 1).encode(dtype, values, rowElements);
    const four = await openQuantizer(packageFolder(), 4).encode(dtype, values, rowElements);
    assert.deepEqual(one, four);
  }
});

test('q8_0 blocks are a half-float scale and 32 signed bytes', { skip }, async () => {
  const values = Float32Array.from({ length: 32 }, (_, i) => i - 16);
  const bytes = await openQuantizer(packageFolder(), 1).encode('q8_0', values, 32);
  const scale = f16ToF32((bytes[0] ?? 0) | ((bytes[1] ?? 0) << 8));
  assert.ok(Math.abs(scale - 16 / 127) < 1e-4);
  assert.equal(new Int8Array(bytes.buffer)[2], -127);
});

test('rows that are no whole number of blocks, and types without a decoder, are refused', {
  skip,
}, async () => {
  const quantizer = openQuantizer(packageFolder(), 1);
  await assert.rejects(quantizer.encode('q8_0', new Float32Array(172), 172), { code: 'DTYPE_ROW_LENGTH' });
  await assert.rejects(quantizer.decode('q8_1', new Uint8Array(36)), { code: 'DEVICE_DTYPE_UNSUPPORTED' });
});

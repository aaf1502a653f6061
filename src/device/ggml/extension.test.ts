import assert from 'node:assert/strict';
import { test } from 'node:test';
import { f16ToF32, f32ToF16 } from '../../base/half.ts';
import { SeededRandom } from '../../base/random.ts';
import { extendQ41, extensionColumns, extensionSums, sumsPerGroup } from './extension.ts';

/** Rows of Q4_1 with plausible scales: most weights lie around zero. */
function randomQ41(rows: number, columns: number, random: SeededRandom): Uint8Array {
  const bytes = Uint8Array.from({ length: (rows * columns * 20) / 32 }, () => random.integer(256));
  const halves = new Uint16Array(bytes.buffer);
  for (let block = 0; block < halves.length; block += 10) {
    const scale = 0.01 + 0.02 * random.next();
    halves[block] = f32ToF16(scale);
    halves[block + 1] = f32ToF16(-scale * (6 + 3 * random.next()));
  }
  return bytes;
}

/** Dequantizes Q4_0 (18 bytes a block, offset 8) or Q4_1 (20 bytes, explicit minimum). */
function dequantize(bytes: Uint8Array, blockBytes: 18 | 20): Float64Array {
  const blocks = bytes.length / blockBytes;
  const values = new Float64Array(blocks * 32);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let block = 0; block < blocks; block++) {
    const at = block * blockBytes;
    const scale = f16ToF32(view.getUint16(at, true));
    const minimum = blockBytes === 20 ? f16ToF32(view.getUint16(at + 2, true)) : -8 * scale;
    for (let i = 0; i < 16; i++) {
      const byte = bytes[at + blockBytes - 16 + i]!;
      values[block * 32 + i] = scale * (byte & 15) + minimum;
      values[block * 32 + 16 + i] = scale * (byte >> 4) + minimum;
    }
  }
  return values;
}

/** The inputs with their block sums behind them, as the device computes those. */
function extendInputs(inputs: Float64Array): Float64Array {
  const columns = inputs.length;
  const groupBlocks = sumsPerGroup(columns);
  const width = 32 * groupBlocks;
  const matrix = extensionSums(groupBlocks);
  const extended = new Float64Array(columns + extensionColumns(columns));
  extended.set(inputs);
  let write = columns;
  for (let start = 0; start < columns; start += width) {
    for (let output = 0; output < 2 * groupBlocks; output++) {
      for (let i = 0; i < width; i++) extended[write]! += matrix[output * width + i]! * inputs[start + i]!;
      write++;
    }
  }
  return extended;
}

for (const columns of [32, 96, 576, 1536]) {
  test(`Q4_1 rows of ${columns} elements multiply as extended Q4_0`, () => {
    const random = new SeededRandom(columns);
    const rows = 24;
    const source = randomQ41(rows, columns, random);
    const width = columns + extensionColumns(columns);
    const target = new Uint8Array((rows * width * 18) / 32);
    extendQ41(source, target, rows, columns);
    const exact = dequantize(source, 20);
    const extended = dequantize(target, 18);
    const inputs = Float64Array.from({ length: columns }, () => random.next() - 0.4);
    const extendedInputs = extendInputs(inputs);
    let difference = 0;
    let norm = 0;
    for (let row = 0; row < rows; row++) {
      let expected = 0;
      let actual = 0;
      for (let i = 0; i < columns; i++) expected += exact[row * columns + i]! * inputs[i]!;
      for (let i = 0; i < width; i++) actual += extended[row * width + i]! * extendedInputs[i]!;
      difference += (actual - expected) ** 2;
      norm += expected ** 2;
    }
    const error = Math.sqrt(difference / norm);
    assert.ok(error < 5e-3, `relative error ${error}`);
  });
}

test('a matrix of zeros stays one', () => {
  const target = new Uint8Array((18 * 64) / 32);
  extendQ41(new Uint8Array(20), target, 1, 32);
  assert.ok(dequantize(target, 18).every((value) => value === 0));
});

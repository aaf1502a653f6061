import assert from 'node:assert/strict';
import { closeSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../../test/support/checkpoint-files.ts';
import { sharedPath, skipWithout } from '../../test/support/shared.ts';
import { f32ToBf16, f32ToF16 } from '../base/half.ts';
import { decodeFloats, readFloats } from './floats.ts';
import { openGguf } from './gguf-reader.ts';
import { openSafetensors } from './safetensors.ts';
import { readTensor, readTensorAsync, rowLayout, type StoredTensor, tensorChunks } from './tensor-file.ts';

function stored(path: string, shape: number[]): StoredTensor {
  const byteLength = shape.reduce((product, size) => product * size, 1);
  return { name: 't', dtype: 'i8', shape, path, offset: 2, byteLength };
}

test('rows read synchronously, asynchronously and in chunks', async (t) => {
  const folder = temporaryFolder(t, { data: Buffer.from([99, 99, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]) });
  const tensor = stored(join(folder, 'data'), [2, 2, 3]);
  assert.deepEqual(rowLayout(tensor), { rows: 4, rowElements: 3, rowBytes: 3 });
  assert.deepEqual([...readTensor(tensor)], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  assert.deepEqual([...readTensor(tensor, 1, 2)], [3, 4, 5, 6, 7, 8]);
  assert.deepEqual([...(await readTensorAsync(tensor, 3))], [9, 10, 11]);
  assert.deepEqual([...readTensor(tensor, 4)], []);
  const into = new Uint8Array(5);
  assert.equal(readTensor(tensor, 0, 1, into).buffer, into.buffer);
  assert.deepEqual([...into], [0, 1, 2, 0, 0]);
  const chunks = [...tensorChunks(tensor, 8)].map((chunk) => [
    chunk.rowStart,
    chunk.rowCount,
    ...chunk.bytes,
  ]);
  assert.deepEqual(chunks, [
    [0, 2, 0, 1, 2, 3, 4, 5],
    [2, 2, 6, 7, 8, 9, 10, 11],
  ]);
  assert.equal([...tensorChunks(tensor, 1)].length, 4);
});

test('rows out of range, short buffers and files that shrank are errors', async (t) => {
  const path = join(temporaryFolder(t, { data: Buffer.alloc(14) }), 'data');
  const tensor = stored(path, [4, 3]);
  for (const [start, count] of [
    [-1, 1],
    [0, 5],
    [5, undefined],
    [0.5, 1],
    [0, Number.NaN],
    [0, -1],
  ] as const) {
    assert.throws(() => readTensor(tensor, start, count), {
      code: 'TENSOR_RANGE_INVALID',
      message: /has 4 rows/,
    });
    await assert.rejects(readTensorAsync(tensor, start, count), { code: 'TENSOR_RANGE_INVALID' });
  }
  assert.throws(() => readTensor(tensor, 0, 2, new Uint8Array(5)), {
    code: 'TENSOR_RANGE_INVALID',
    message: /6 are needed/,
  });
  truncateSync(path, 6);
  assert.throws(() => readTensor(tensor), { code: 'CHECKPOINT_CHANGED', message: /truncated or replaced/ });
  await assert.rejects(readTensorAsync(tensor), { code: 'CHECKPOINT_CHANGED' });
  assert.throws(() => readTensor(stored('/nowhere/at/all', [1])), { code: 'CHECKPOINT_NOT_FOUND' });
  await assert.rejects(readTensorAsync(stored('/nowhere/at/all', [1])), { code: 'CHECKPOINT_NOT_FOUND' });
  assert.throws(() => readTensor(stored('/dev/zero', [1])), {
    code: 'CHECKPOINT_UNREADABLE',
    message: /not a regular file/,
  });
});

test('a tensor of more than 4 GiB reads by rows and in chunks, but not into one Buffer', (t) => {
  const path = join(temporaryFolder(t), 'sparse');
  writeFileSync(path, '');
  const rowBytes = 1024 * 1024;
  const rows = 5 * 1024;
  truncateSync(path, rows * rowBytes + 2);
  const file = openSync(path, 'r+');
  writeSync(file, Buffer.from([42]), 0, 1, rows * rowBytes + 1);
  closeSync(file);
  const tensor = stored(path, [rows, rowBytes]);
  assert.equal(readTensor(tensor, rows - 1).at(-1), 42);
  assert.throws(() => readTensor(tensor), { code: 'TENSOR_TOO_LARGE', message: /tensorChunks/ });
  const first = tensorChunks(tensor).next();
  assert.ok(!first.done && first.value.rowCount === 16);
});

test('plain floats decode to float32; block types do not', () => {
  const bytes = (values: Float64Array | Float32Array | Uint16Array) => new Uint8Array(values.buffer);
  assert.deepEqual(decodeFloats('f64', bytes(Float64Array.of(0.5, -2))), Float32Array.of(0.5, -2));
  assert.deepEqual(decodeFloats('f32', bytes(Float32Array.of(0.1))), Float32Array.of(0.1));
  assert.deepEqual(decodeFloats('f16', bytes(Uint16Array.of(f32ToF16(1.5)))), Float32Array.of(1.5));
  assert.deepEqual(decodeFloats('bf16', bytes(Uint16Array.of(f32ToBf16(-3)))), Float32Array.of(-3));
  assert.equal(decodeFloats('q8_0', new Uint8Array(34)), undefined);
  const tensor: StoredTensor = {
    name: 't',
    dtype: 'i8',
    shape: [0],
    path: '/dev/null',
    offset: 0,
    byteLength: 0,
  };
  assert.throws(() => readFloats(tensor), /not a regular file|plain floats/);
});

/** Rows of one head: HF has the first halves of all pairs, then the second; GGUF's llama has pair after pair. */
function toHalfSplit(interleaved: Float32Array, heads: number): Float32Array {
  const columns = 64;
  const rowsPerHead = interleaved.length / columns / heads;
  const result = new Float32Array(interleaved.length);
  for (let row = 0; row < heads * rowsPerHead; row++) {
    const inHead = row % rowsPerHead;
    const target = row - inHead + Math.floor(inHead / 2) + (inHead % 2) * (rowsPerHead / 2);
    result.set(interleaved.subarray(row * columns, (row + 1) * columns), target * columns);
  }
  return result;
}

const ggufNames: [RegExp, string][] = [
  [/^model\.layers\.(\d+)\.self_attn\.(.)_proj\.weight$/, 'blk.$1.attn_$2.weight'],
  [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight$/, 'blk.$1.ffn_$2.weight'],
  [/^model\.layers\.(\d+)\.input_layernorm\.weight$/, 'blk.$1.attn_norm.weight'],
  [/^model\.layers\.(\d+)\.post_attention_layernorm\.weight$/, 'blk.$1.ffn_norm.weight'],
  [/^model\.embed_tokens\.weight$/, 'token_embd.weight'],
  [/^model\.norm\.weight$/, 'output_norm.weight'],
];

test('stories260K holds the same numbers in both formats', {
  skip: skipWithout('models/stories260K'),
}, () => {
  const fromGguf = openGguf(sharedPath('models/stories260K/stories260K-f32.gguf'));
  const fromSafetensors = openSafetensors(sharedPath('models/stories260K/model.safetensors'));
  for (const tensor of fromSafetensors.tensors.values()) {
    const [pattern, replacement] = ggufNames.find(([known]) => known.test(tensor.name))!;
    const other = fromGguf.tensor(
      tensor.name.replace(pattern, replacement).replace('attn_o.', 'attn_output.'),
    );
    assert.deepEqual(other.shape, tensor.shape, tensor.name);
    const heads = tensor.name.includes('q_proj') ? 8 : 4;
    const permuted = /[qk]_proj/.test(tensor.name);
    const floats = readFloats(other);
    assert.deepEqual(permuted ? toHalfSplit(floats, heads) : floats, readFloats(tensor), tensor.name);
  }
});

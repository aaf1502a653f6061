import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { gguf } from '@huggingface/gguf';
import {
  type RawGguf,
  rawGguf,
  temporaryFolder,
  tensorInfo,
  text,
  u8,
  u32,
  u64,
} from '../../test/support/checkpoint-files.ts';
import { sharedPath, skipWithout } from '../../test/support/shared.ts';
import { packageRoot } from '../base/entry.ts';
import { type DType, dtypeNames, dtypes } from '../graph/dtype.ts';
import { MemorySource } from './byte-source.ts';
import { CheckpointError, type CheckpointErrorCode } from './errors.ts';
import { ggufLimits } from './gguf-limits.ts';
import type { GgufParts } from './gguf-parts.ts';
import { openGguf, parseGguf } from './gguf-reader.ts';
import type { GgufValue } from './gguf-values.ts';

const parse = (bytes: Uint8Array): GgufParts => parseGguf(new MemorySource(bytes));

function refuses(parts: RawGguf | Buffer, code: CheckpointErrorCode, message: RegExp): void {
  const bytes = Buffer.isBuffer(parts) ? parts : rawGguf(parts);
  assert.throws(
    () => parse(bytes),
    (thrown) => {
      assert.ok(thrown instanceof CheckpointError, String(thrown));
      assert.equal(thrown.code, code, thrown.message);
      assert.match(thrown.message, message);
      return true;
    },
  );
}

/** Our value in the shape that @huggingface/gguf gives. */
function plain(value: GgufValue): unknown {
  if (value.type !== 'array') return value.value;
  if (value.of === 'array') return value.value.map(plain);
  if (value.of === 'string') return value.value.map(withoutByteOrderMark);
  return Array.from(value.value as ArrayLike<unknown>);
}

/** Llama 2's vocabulary has U+FEFF as a word; their text decoder drops it. */
function withoutByteOrderMark(word: string): string {
  return word.replace(/^\ufeff/, '');
}

const files = [
  'models/stories260K/stories260K-f32.gguf',
  ...['bert-bge', 'deepseek-coder', 'gpt-2', 'llama-spm', 'phi-3'].map(
    (name) => `models/tokenizers/gguf-vocab/ggml-vocab-${name}.gguf`,
  ),
];

for (const file of files) {
  test(`${file} reads as @huggingface/gguf reads it`, { skip: skipWithout(file) }, async () => {
    const ours = openGguf(sharedPath(file));
    const theirs = await gguf(sharedPath(file), { allowLocalFile: true });
    const { version, tensor_count, kv_count, ...metadata } = theirs.metadata as Record<string, unknown>;
    assert.equal(ours.version, version);
    assert.equal(ours.metadata.size, Number(kv_count));
    assert.equal(ours.tensors.size, Number(tensor_count));
    assert.deepEqual([...ours.metadata.keys()], Object.keys(metadata));
    for (const [key, value] of ours.metadata) {
      const expected = metadata[key];
      const ourValue = plain(value);
      assert.deepEqual(ourValue, typeof expected === 'bigint' ? Number(expected) : expected, key);
    }
    for (const [index, tensor] of [...ours.tensors.values()].entries()) {
      const info = theirs.tensorInfos[index]!;
      assert.equal(tensor.name, info.name);
      assert.deepEqual(tensor.shape, info.shape.map(Number).reverse());
      assert.equal(dtypes[tensor.dtype].ggmlId, info.dtype);
      assert.equal(tensor.offset, Number(theirs.tensorDataOffset + info.offset));
    }
  });
}

test("the dtype table has @huggingface/gguf's types and sizes", async () => {
  const source = join(packageRoot, 'node_modules/@huggingface/gguf/src/quant-descriptions.ts');
  const { GGML_QUANT_SIZES: bitsPerElement } = (await import(pathToFileURL(source).href)) as {
    GGML_QUANT_SIZES: Record<number, number>;
  };
  // Their q8_1 still has the two float32 of 2023; ggml's has been two halves since.
  const differing: DType[] = ['q8_1'];
  for (const name of dtypeNames.filter((dtype) => !differing.includes(dtype))) {
    const { ggmlId, blockBytes, blockElements } = dtypes[name];
    assert.equal((blockBytes * 8) / blockElements, bitsPerElement[ggmlId], name);
  }
});

test('every value type reads back, nested arrays included', () => {
  const f32 = Buffer.alloc(4);
  f32.writeFloatLE(0.5);
  const f64 = Buffer.alloc(8);
  f64.writeDoubleLE(0.1);
  const inner = (values: number[]) => Buffer.concat([u32(0), u64(values.length), ...values.map(u8)]);
  const { metadata } = parse(
    rawGguf({
      entries: [
        Buffer.concat([text('u8'), u32(0), u8(255)]),
        Buffer.concat([text('i8'), u32(1), u8(255)]),
        Buffer.concat([text('u16'), u32(2), u8(1), u8(255)]),
        Buffer.concat([text('i16'), u32(3), u8(1), u8(255)]),
        Buffer.concat([text('u32'), u32(4), u32(2 ** 32 - 1)]),
        Buffer.concat([text('i32'), u32(5), u32(2 ** 32 - 1)]),
        Buffer.concat([text('f32'), u32(6), f32]),
        Buffer.concat([text('bool'), u32(7), u8(1)]),
        Buffer.concat([text('string'), u32(8), text('häß')]),
        Buffer.concat([text('array'), u32(9), u32(9), u64(2), inner([1, 2]), inner([])]),
        Buffer.concat([text('u64'), u32(10), u64(7)]),
        Buffer.concat([text('large u64'), u32(10), u64(2n ** 64n - 1n)]),
        Buffer.concat([text('i64'), u32(11), u64(2n ** 64n - 5n)]),
        Buffer.concat([text('f64'), u32(12), f64]),
      ],
    }),
  );
  const values = Object.fromEntries([...metadata].map(([key, value]) => [key, plain(value)]));
  assert.deepEqual(values, {
    u8: 255,
    i8: -1,
    u16: 65281,
    i16: -255,
    u32: 2 ** 32 - 1,
    i32: -1,
    f32: 0.5,
    bool: true,
    string: 'häß',
    array: [[1, 2], []],
    u64: 7,
    'large u64': 2n ** 64n - 1n,
    i64: -5,
    f64: 0.1,
  });
});

test('typed getters name the key that is missing or of another type', (t) => {
  const bytes = rawGguf({ entries: [Buffer.concat([text('general.architecture'), u32(8), text('llama')])] });
  const folder = temporaryFolder(t, { 'a.gguf': bytes });
  const file = openGguf(join(folder, 'a.gguf'));
  assert.equal(file.architecture, 'llama');
  assert.equal(file.optionalNumber('llama.block_count'), undefined);
  assert.throws(() => file.number('llama.block_count'), {
    code: 'GGUF_KEY_MISSING',
    message: /llama\.block_count/,
  });
  const wrongType = { code: 'GGUF_KEY_TYPE', message: /general\.architecture.*type string/ };
  assert.throws(() => file.number('general.architecture'), wrongType);
  assert.throws(() => file.strings('general.architecture'), wrongType);
  assert.throws(() => file.numbers('general.architecture'), wrongType);
  assert.throws(() => file.boolean('general.architecture'), wrongType);
  assert.throws(() => file.tensor('output.weight'), { code: 'TENSOR_NOT_FOUND', message: /output\.weight/ });
});

test('other versions, byte orders and formats are named', () => {
  refuses({ version: 1 }, 'GGUF_VERSION_UNSUPPORTED', /version 1; .*convert the model again/);
  refuses({ version: 4 }, 'GGUF_VERSION_UNSUPPORTED', /version 4/);
  refuses({ version: 0x03000000 }, 'GGUF_VERSION_UNSUPPORTED', /big-endian/);
  refuses(Buffer.from('PK\x03\x04 and more'), 'CHECKPOINT_UNRECOGNIZED', /no GGUF file/);
  refuses(Buffer.from('GG'), 'GGUF_TRUNCATED', /ends inside the header/);
  assert.equal(parse(rawGguf({ version: 2 })).version, 2);
});

const huge = 2n ** 63n;
const entry = (type: number, ...value: Buffer[]) => Buffer.concat([text('k'), u32(type), ...value]);
const data = Buffer.alloc(64);

test('absurd counts are refused before anything is allocated for them', () => {
  refuses({ tensorCount: huge }, 'GGUF_LIMIT', /tensor count/);
  refuses({ tensorCount: ggufLimits.tensorsMax + 1 }, 'GGUF_LIMIT', /tensor count is 262145/);
  refuses({ tensorCount: ggufLimits.tensorsMax }, 'GGUF_TRUNCATED', /tensor 0 of 262144/);
  refuses({ entryCount: ggufLimits.metadataEntriesMax + 1 }, 'GGUF_LIMIT', /metadata count/);
  refuses({ entries: [u64(ggufLimits.keyBytesMax + 1)] }, 'GGUF_LIMIT', /metadata key in bytes/);
  refuses({ entries: [u64(40)] }, 'GGUF_TRUNCATED', /metadata entry 0 of 1/);
  refuses({ entries: [entry(8, u64(huge))] }, 'GGUF_LIMIT', /metadata string in bytes/);
  refuses({ entries: [entry(8, u64(1000))] }, 'GGUF_TRUNCATED', /value of metadata key 'k'/);
  refuses({ entries: [entry(9, u32(4), u64(huge))] }, 'GGUF_LIMIT', /length of a metadata array/);
  refuses({ entries: [entry(9, u32(8), u64(16_000_000))] }, 'GGUF_TRUNCATED', /an array of 16000000 string/);
  const many = Buffer.concat([
    u32(7),
    u64(ggufLimits.arrayObjectsMax + 1),
    Buffer.alloc(ggufLimits.arrayObjectsMax + 1),
  ]);
  refuses({ entries: [entry(9, many)] }, 'GGUF_LIMIT', /number of strings, booleans and arrays/);
  const nested = (depth: number): Buffer =>
    depth === 0 ? Buffer.concat([u32(0), u64(0)]) : Buffer.concat([u32(9), u64(1), nested(depth - 1)]);
  refuses(
    { entries: [entry(9, nested(ggufLimits.arrayDepthMax))] },
    'GGUF_LIMIT',
    /nesting of metadata arrays/,
  );
  assert.equal(
    parse(rawGguf({ entries: [entry(9, nested(ggufLimits.arrayDepthMax - 1))] })).metadata.size,
    1,
  );
});

test('metadata that cannot be is refused', () => {
  refuses({ entries: [entry(13)] }, 'GGUF_METADATA_INVALID', /unknown type 13/);
  refuses({ entries: [entry(9, u32(99), u64(0))] }, 'GGUF_METADATA_INVALID', /unknown type 99/);
  refuses({ entries: [entry(7, u8(2))] }, 'GGUF_METADATA_INVALID', /boolean 2/);
  refuses({ entries: [entry(0, u8(1)), entry(0, u8(1))] }, 'GGUF_METADATA_INVALID', /'k' stands twice/);
  const alignment = (value: number) => Buffer.concat([text('general.alignment'), u32(4), u32(value)]);
  for (const value of [0, 24, ggufLimits.alignmentBytesMax * 2]) {
    refuses({ entries: [alignment(value)] }, 'GGUF_METADATA_INVALID', /general\.alignment is/);
  }
  const wrongType = Buffer.concat([text('general.alignment'), u32(8), text('x')]);
  refuses({ entries: [wrongType] }, 'GGUF_KEY_TYPE', /general\.alignment/);
});

test('tensor descriptions that cannot be are refused', () => {
  const one = (...tensors: Buffer[]): RawGguf => ({ tensors, data });
  refuses(one(tensorInfo('t', [1, 1, 1, 1, 1], 0, 0)), 'GGUF_LIMIT', /dimension count/);
  refuses(one(tensorInfo('t'.repeat(1025), [1], 0, 0)), 'GGUF_LIMIT', /tensor name in bytes/);
  refuses(one(tensorInfo('t', [huge], 0, 0)), 'GGUF_LIMIT', /a dimension of tensor 't'/);
  refuses(one(tensorInfo('t', [2 ** 40, 2 ** 40], 0, 0)), 'GGUF_TENSOR_INVALID', /too large/);
  refuses(one(tensorInfo('t', [2 ** 50], 0, 2 ** 51)), 'GGUF_TRUNCATED', /incomplete/);
  refuses(one(tensorInfo('t', [33], 2, 0)), 'GGUF_TENSOR_INVALID', /q4_0's block of 32/);
  refuses(one(tensorInfo('t', [1], 4, 0)), 'TENSOR_TYPE_UNSUPPORTED', /ggml type 4.*q8_0/);
  refuses(one(tensorInfo('t', [1], 0, 16)), 'GGUF_LAYOUT_INVALID', /no multiple of the alignment/);
  refuses(one(tensorInfo('t', [17], 0, 0)), 'GGUF_TRUNCATED', /tensor 't' ends at byte/);
  refuses(one(tensorInfo('t', [1], 0, 2n ** 53n - 32n)), 'GGUF_TRUNCATED', /incomplete/);
  refuses(one(tensorInfo('t', [1], 0, huge)), 'GGUF_LIMIT', /offset of tensor 't'/);
  refuses(
    one(tensorInfo('t', [1], 0, 0), tensorInfo('t', [1], 0, 32)),
    'GGUF_TENSOR_INVALID',
    /'t' stands twice/,
  );
  refuses(
    one(tensorInfo('a', [9], 0, 0), tensorInfo('b', [1], 0, 32)),
    'GGUF_LAYOUT_INVALID',
    /'a' and 'b' share/,
  );
});

test('scalars, empty tensors and tensors out of order are fine', () => {
  const tensors = [tensorInfo('b', [8], 0, 32), tensorInfo('a', [], 0, 0), tensorInfo('c', [0, 4], 0, 32)];
  const parts = parse(rawGguf({ tensors, data }));
  assert.deepEqual([...parts.tensors.keys()], ['b', 'a', 'c']);
  assert.deepEqual(parts.tensors.get('a')?.shape, []);
  assert.equal(parts.tensors.get('a')?.byteLength, 4);
  assert.deepEqual(parts.tensors.get('c')?.shape, [4, 0]);
  assert.equal(parts.tensors.get('c')?.byteLength, 0);
});

test('every truncation of a small file is an error, never a wrong answer', (t) => {
  const bytes = rawGguf({
    entries: [entry(9, u32(8), u64(2), text('one'), text('two'))],
    tensors: [tensorInfo('t', [16], 0, 0)],
    data,
  });
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => parse(bytes.subarray(0, length)), CheckpointError, `${length} bytes`);
  }
  const folder = temporaryFolder(t);
  const path = join(folder, 'cut.gguf');
  writeFileSync(path, bytes.subarray(0, 100));
  assert.throws(
    () => openGguf(path),
    (thrown) => thrown instanceof CheckpointError && thrown.message.includes(path),
  );
});

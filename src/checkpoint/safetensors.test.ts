import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { rawSafetensors, temporaryFolder } from '../../test/support/checkpoint-files.ts';
import { sharedPath, skipWithout } from '../../test/support/shared.ts';
import { MemorySource } from './byte-source.ts';
import { CheckpointError, type CheckpointErrorCode } from './errors.ts';
import { openSafetensors, parseSafetensors, safetensorsLimits } from './safetensors.ts';
import { openSafetensorsIndex } from './safetensors-index.ts';
import { type SafetensorsContents, type SafetensorsTensor, writeSafetensors } from './safetensors-writer.ts';
import { readTensor, tensorChunks } from './tensor-file.ts';

const parse = (bytes: Uint8Array) => parseSafetensors(new MemorySource(bytes));

function refuses(bytes: Buffer, code: CheckpointErrorCode, message: RegExp): void {
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

const tensor = (dtype: string, shape: number[], start: number, end: number) => ({
  dtype,
  shape,
  data_offsets: [start, end],
});
const eight = Buffer.alloc(8, 1);

test('a header with padding, metadata, a scalar and an empty tensor reads', () => {
  const header = {
    __metadata__: { format: 'pt' },
    scalar: tensor('F32', [], 4, 8),
    empty: tensor('I64', [0, 3], 8, 8),
    half: tensor('F16', [2], 0, 4),
  };
  const file = parse(rawSafetensors(`${JSON.stringify(header)}   `, eight));
  assert.deepEqual([...file.metadata], [['format', 'pt']]);
  assert.deepEqual([...file.tensors.keys()], ['half', 'scalar', 'empty']);
  assert.equal(file.tensors.get('scalar')?.byteLength, 4);
  assert.equal(file.tensors.get('empty')?.dtype, 'i64');
  assert.equal(parse(rawSafetensors({})).tensors.size, 0);
});

test('types that no device computes with are set apart, unknown ones refused', () => {
  const header = { mask: tensor('BOOL', [4], 0, 4), packed: tensor('F4', [8], 4, 8) };
  const file = parse(rawSafetensors(header, eight));
  assert.equal(file.tensors.size, 0);
  assert.deepEqual(
    [...file.foreign.values()].map((foreign) => foreign.type),
    ['BOOL', 'F4'],
  );
  refuses(
    rawSafetensors({ t: tensor('F31', [1], 0, 4) }, eight),
    'TENSOR_TYPE_UNSUPPORTED',
    /'F31'; known: BOOL/,
  );
});

test('a header that is too long, cut or no JSON is refused', () => {
  refuses(Buffer.alloc(7), 'SAFETENSORS_TRUNCATED', /7 bytes are too few/);
  refuses(
    rawSafetensors({}, eight, 2n ** 64n - 1n),
    'SAFETENSORS_LIMIT',
    /over the format's limit of 100000000/,
  );
  refuses(rawSafetensors({}, eight, safetensorsLimits.headerBytesMax + 1), 'SAFETENSORS_LIMIT', /100000001/);
  refuses(
    rawSafetensors({}, eight, safetensorsLimits.headerBytesMax),
    'SAFETENSORS_TRUNCATED',
    /runs past the end/,
  );
  refuses(rawSafetensors(' {}'), 'SAFETENSORS_HEADER_INVALID', /does not begin with/);
  refuses(rawSafetensors(''), 'SAFETENSORS_HEADER_INVALID', /does not begin with/);
  refuses(rawSafetensors('{"a"'), 'SAFETENSORS_HEADER_INVALID', /not valid/);
  refuses(rawSafetensors('{"a\xff":1}').fill(0xff, 11, 12), 'SAFETENSORS_HEADER_INVALID', /not valid/);
  refuses(rawSafetensors(`{"a":${'['.repeat(100_000)}`), 'SAFETENSORS_HEADER_INVALID', /more than 4 deep/);
  refuses(rawSafetensors({ __metadata__: [] }), 'SAFETENSORS_HEADER_INVALID', /__metadata__ is no object/);
  refuses(rawSafetensors({ __metadata__: { a: 1 } }), 'SAFETENSORS_HEADER_INVALID', /'a' is no string/);
});

test('a key that stands twice is refused, however it is spelled and wherever it is', () => {
  const entry = JSON.stringify(tensor('F32', [2], 0, 8));
  refuses(
    rawSafetensors(`{"a":${entry},"a":${entry}}`, eight),
    'SAFETENSORS_HEADER_INVALID',
    /"a" stands twice/,
  );
  refuses(
    rawSafetensors(`{"a":${entry},"\\u0061":${entry}}`, eight),
    'SAFETENSORS_HEADER_INVALID',
    /"a" stands twice/,
  );
  const inner = '{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}';
  refuses(rawSafetensors(`{"a":${inner}}`, eight), 'SAFETENSORS_HEADER_INVALID', /"dtype" stands twice/);
  const sameInBoth = { a: tensor('F32', [1], 0, 4), b: tensor('F32', [1], 4, 8) };
  assert.equal(parse(rawSafetensors(sameInBoth, eight)).tensors.size, 2);
  assert.equal(
    parse(rawSafetensors(`{"__proto__":${entry}}`, eight)).tensors.get('__proto__')?.byteLength,
    8,
  );
});

test('descriptions that cannot be are refused', () => {
  const bad = (entry: unknown, message: RegExp, code: CheckpointErrorCode = 'SAFETENSORS_TENSOR_INVALID') =>
    refuses(rawSafetensors({ t: entry }, eight), code, message);
  bad(1, /not described by an object/);
  bad({ shape: [2], data_offsets: [0, 8] }, /no dtype/);
  bad({ dtype: 'F32', data_offsets: [0, 8] }, /no shape/);
  bad({ dtype: 'F32', shape: [-2], data_offsets: [0, 8] }, /no shape/);
  bad({ dtype: 'F32', shape: [1.5], data_offsets: [0, 8] }, /no shape/);
  bad({ dtype: 'F32', shape: [2] }, /no two data_offsets/);
  bad({ dtype: 'F32', shape: [2], data_offsets: [0, 8, 9] }, /no two data_offsets/);
  bad(tensor('F32', [3], 0, 8), /takes 12 bytes, but its data_offsets span 8/);
  bad(tensor('F32', [2], 8, 0), /span -8/);
  bad(tensor('F32', [2 ** 40, 2 ** 40], 0, 8), /no file holds/);
  bad(tensor('F4', [1], 0, 1), /no file holds/);
  bad(tensor('F32', [1, 1, 1, 1, 1, 1, 1, 1, 2], 0, 8), /has 9 dimensions; 8 are the most/);
  bad(tensor('F32', [2], 4, 12), /ends at byte \d+, but the file has/, 'SAFETENSORS_TRUNCATED');
  const longName = 'n'.repeat(safetensorsLimits.tensorNameBytesMax + 1);
  refuses(
    rawSafetensors({ [longName]: tensor('F32', [2], 0, 8) }, eight),
    'SAFETENSORS_LIMIT',
    /tensor name/,
  );
});

test('overlaps, holes and bytes of nobody are refused', () => {
  const overlap = { a: tensor('F16', [3], 0, 6), b: tensor('F16', [2], 4, 8) };
  refuses(rawSafetensors(overlap, eight), 'SAFETENSORS_LAYOUT_INVALID', /'a' and 'b' share bytes/);
  const hole = { a: tensor('F16', [1], 0, 2), b: tensor('F16', [2], 4, 8) };
  refuses(rawSafetensors(hole, eight), 'SAFETENSORS_LAYOUT_INVALID', /bytes 2 to 4/);
  refuses(
    rawSafetensors({ a: tensor('F16', [1], 0, 2) }, eight),
    'SAFETENSORS_LAYOUT_INVALID',
    /bytes 2 to 8/,
  );
  refuses(
    rawSafetensors({ a: tensor('F16', [3], 2, 8) }, eight),
    'SAFETENSORS_LAYOUT_INVALID',
    /bytes 0 to 2/,
  );
});

test('more tensors than the limit are refused', () => {
  const count = safetensorsLimits.tensorsMax + 1;
  const entries = Array.from({ length: count }, (_, i) => `"${i}":0`);
  refuses(rawSafetensors(`{${entries.join(',')}}`), 'SAFETENSORS_LIMIT', /262145 tensors/);
});

test('every truncation of a small file is an error', () => {
  const bytes = rawSafetensors({ a: tensor('F32', [2], 0, 8) }, eight);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => parse(bytes.subarray(0, length)), CheckpointError, `${length} bytes`);
  }
});

const tensors: SafetensorsTensor[] = [
  { name: 'b', dtype: 'f16', shape: [2], data: Buffer.from([1, 2, 3, 4]) },
  { name: '10', dtype: 'f32', shape: [1], data: () => [Buffer.from([5, 6]), Buffer.from([7, 8])] },
  { name: 'a', dtype: 'F8_E4M3', shape: [3], data: Buffer.from([9, 9, 9]) },
];

test('what is written reads back: widest first, then by name, the same bytes each time', async (t) => {
  const folder = temporaryFolder(t);
  const contents: SafetensorsContents = { tensors, metadata: { format: 'pt' } };
  const size = await writeSafetensors(join(folder, 'a.safetensors'), contents);
  await writeSafetensors(join(folder, 'b.safetensors'), { ...contents, tensors: [...tensors].reverse() });
  const bytes = readFileSync(join(folder, 'a.safetensors'));
  assert.equal(size, bytes.length);
  assert.ok(bytes.equals(readFileSync(join(folder, 'b.safetensors'))));
  const file = openSafetensors(join(folder, 'a.safetensors'));
  assert.deepEqual([...file.tensors.keys()], ['10', 'b']);
  assert.equal(file.foreign.get('a')?.type, 'F8_E4M3');
  assert.deepEqual(readTensor(file.tensors.get('10')!), Buffer.from([5, 6, 7, 8]));
  assert.equal(file.tensors.get('10')!.offset % 8, 0);
});

test('what safetensors cannot hold is not written', async (t) => {
  const path = join(temporaryFolder(t), 'x.safetensors');
  const refused = async (tensor: Partial<SafetensorsTensor>, message: RegExp) => {
    const write = writeSafetensors(path, { tensors: [{ ...tensors[0]!, ...tensor }] });
    await assert.rejects(write, { code: 'CHECKPOINT_WRITE_INVALID', message });
    assert.ok(!existsSync(path));
  };
  await refused({ dtype: 'q4_0' }, /cannot store q4_0; use GGUF/);
  await refused({ shape: [3] }, /needs 6 bytes, but 4 were given/);
  await refused({ name: '__metadata__' }, /reserved/);
  await assert.rejects(writeSafetensors(path, { tensors: [tensors[0]!, tensors[0]!] }), /given twice/);
});

for (const model of ['stories260K', 'gpt-nano-sort']) {
  const path = `models/${model}/model.safetensors`;
  test(`${path} is written again with the same tensors`, { skip: skipWithout(path) }, async (t) => {
    const original = openSafetensors(sharedPath(path));
    const copy = join(temporaryFolder(t), 'copy.safetensors');
    const copied = [...original.tensors.values()].map((stored) => ({
      ...stored,
      data: () => [...tensorChunks(stored, 1000)].map((chunk) => chunk.bytes),
    }));
    await writeSafetensors(copy, { tensors: copied, metadata: Object.fromEntries(original.metadata) });
    const written = openSafetensors(copy);
    assert.deepEqual([...written.tensors.keys()].sort(), [...original.tensors.keys()].sort());
    for (const stored of original.tensors.values()) {
      assert.ok(readTensor(stored).equals(readTensor(written.tensors.get(stored.name)!)), stored.name);
    }
  });
}

test('an index opens all its shards, and says what is wrong with it', async (t) => {
  const folder = temporaryFolder(t);
  const indexPath = join(folder, 'model.safetensors.index.json');
  const index = (weightMap: unknown) => writeFileSync(indexPath, JSON.stringify({ weight_map: weightMap }));
  const [one, two] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
  await writeSafetensors(join(folder, one), { tensors: [tensors[0]!, tensors[2]!] });
  index({ b: one, a: one, '10': two });
  const open = () => openSafetensorsIndex(indexPath);
  assert.throws(open, {
    code: 'CHECKPOINT_INCOMPLETE',
    message: /model-00002-of-00002\.safetensors of 2 weight files/,
  });
  await writeSafetensors(join(folder, two), { tensors: [tensors[1]!] });
  const set = open();
  assert.deepEqual([[...set.tensors.keys()].sort(), [...set.foreign.keys()]], [['10', 'b'], ['a']]);
  assert.deepEqual(set.files, [join(folder, one), join(folder, two)]);

  index({ b: two });
  assert.throws(open, {
    code: 'SAFETENSORS_INDEX_INVALID',
    message: /says that .* holds 'b', which it does not/,
  });
  for (const file of ['../x.safetensors', '/etc/x.safetensors', 'a\\b.safetensors', '..', 'passwd', '']) {
    index({ b: file });
    assert.throws(open, {
      code: 'SAFETENSORS_INDEX_INVALID',
      message: /no \.safetensors file in the same folder/,
    });
  }
  index({ b: 7 });
  assert.throws(open, { code: 'SAFETENSORS_INDEX_INVALID' });
  index('none');
  assert.throws(open, { code: 'SAFETENSORS_INDEX_INVALID', message: /no weight_map/ });
  writeFileSync(indexPath, '{');
  assert.throws(open, { code: 'CHECKPOINT_JSON_INVALID' });
});

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gguf } from '@huggingface/gguf';
import { temporaryFolder } from '../../test/support/checkpoint-files.ts';
import { sharedPath, skipWithout } from '../../test/support/shared.ts';
import { dtypeNames, dtypes } from '../graph/dtype.ts';
import { openGguf } from './gguf-reader.ts';
import { shardFileName } from './gguf-split.ts';
import type { GgufValue } from './gguf-values.ts';
import { type GgufContents, type GgufTensor, writeGguf } from './gguf-writer.ts';
import { readTensor, tensorChunks } from './tensor-file.ts';

const metadata: [string, GgufValue][] = [
  ['general.architecture', { type: 'string', value: 'llama' }],
  ['u8', { type: 'u8', value: 255 }],
  ['i8', { type: 'i8', value: -128 }],
  ['u16', { type: 'u16', value: 65535 }],
  ['i16', { type: 'i16', value: -32768 }],
  ['u32', { type: 'u32', value: 2 ** 32 - 1 }],
  ['i32', { type: 'i32', value: -(2 ** 31) }],
  ['f32', { type: 'f32', value: 0.25 }],
  ['f64', { type: 'f64', value: 0.1 }],
  ['bool', { type: 'bool', value: true }],
  ['u64', { type: 'u64', value: 2n ** 64n - 1n }],
  ['i64', { type: 'i64', value: -7 }],
  ['strings', { type: 'array', of: 'string', value: ['', '▁the', '\u{1f600}', 'a\0b'] }],
  ['floats', { type: 'array', of: 'f32', value: [0.5, Number.NEGATIVE_INFINITY] }],
  ['ids', { type: 'array', of: 'i32', value: [1, -1] }],
  ['longs', { type: 'array', of: 'u64', value: [1, 2n ** 63n] }],
  ['flags', { type: 'array', of: 'bool', value: [true, false] }],
  ['empty', { type: 'array', of: 'u8', value: [] }],
  ['nested', { type: 'array', of: 'array', value: [{ type: 'array', of: 'string', value: ['x'] }] }],
];

const everyType: GgufTensor[] = dtypeNames.map((dtype, index) => {
  const elements = dtypes[dtype].blockElements * 3;
  const bytes = Buffer.alloc(dtypes[dtype].blockBytes * 6, index + 1);
  return {
    name: `blk.${index}.${dtype}`,
    dtype,
    shape: [2, elements],
    data: () => [bytes.subarray(0, 5), bytes.subarray(5)],
  };
});

function sameValue(value: GgufValue): unknown {
  if (value.type !== 'array') return typeof value.value === 'number' ? value.value : value.value;
  if (value.of === 'array') return value.value.map(sameValue);
  if (value.of === 'u64' || value.of === 'i64') return Array.from(value.value, BigInt);
  return Array.from(value.value as ArrayLike<unknown>);
}

for (const alignmentBytes of [8, 32, 4096]) {
  test(`what is written reads back, aligned to ${alignmentBytes}, and @huggingface/gguf agrees`, async (t) => {
    const path = join(temporaryFolder(t), 'all.gguf');
    const size = await writeGguf(path, { metadata, tensors: everyType, alignmentBytes });
    assert.equal(size, readFileSync(path).length);
    assert.equal(size % alignmentBytes, 0);
    const file = openGguf(path);
    assert.equal(file.alignmentBytes, alignmentBytes);
    for (const [key, value] of metadata)
      assert.deepEqual(sameValue(file.metadata.get(key)!), sameValue(value), key);
    assert.deepEqual(
      [...file.tensors.keys()],
      everyType.map((tensor) => tensor.name),
    );
    for (const [index, tensor] of everyType.entries()) {
      const stored = file.tensor(tensor.name);
      assert.equal(stored.dtype, tensor.dtype);
      assert.deepEqual(stored.shape, tensor.shape);
      assert.equal(stored.offset % alignmentBytes, 0);
      assert.deepEqual(readTensor(stored), Buffer.alloc(stored.byteLength, index + 1));
    }
    const theirs = await gguf(path, { allowLocalFile: true });
    assert.deepEqual(
      theirs.tensorInfos.map((info) => info.name),
      [...file.tensors.keys()],
    );
    for (const info of theirs.tensorInfos) {
      assert.equal(Number(theirs.tensorDataOffset + info.offset), file.tensor(info.name).offset);
    }
    assert.deepEqual((theirs.metadata as Record<string, unknown>).strings, ['', '▁the', '\u{1f600}', 'a\0b']);
  });
}

test('the same contents give the same bytes, and onBytes sees all of them in order', async (t) => {
  const folder = temporaryFolder(t);
  const hash = createHash('sha256');
  const tensors: GgufTensor[] = [
    ...everyType,
    { name: 'large', dtype: 'f32', shape: [700_000], data: new Uint8Array(2_800_000).fill(9) },
  ];
  const contents: GgufContents = { metadata, tensors, onBytes: (bytes) => void hash.update(bytes) };
  await writeGguf(join(folder, 'a.gguf'), contents);
  await writeGguf(join(folder, 'b.gguf'), { metadata, tensors });
  const bytes = readFileSync(join(folder, 'a.gguf'));
  assert.ok(bytes.equals(readFileSync(join(folder, 'b.gguf'))));
  assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'));
});

test('an alignment in the metadata counts, so that a copy keeps it', async (t) => {
  const path = join(temporaryFolder(t), 'aligned.gguf');
  const stated: [string, GgufValue][] = [['general.alignment', { type: 'u32', value: 1024 }]];
  await writeGguf(path, { metadata: stated, tensors: everyType });
  const file = openGguf(path);
  assert.equal(file.alignmentBytes, 1024);
  for (const tensor of file.tensors.values()) assert.equal(tensor.offset % 1024, 0);
});

const stories = 'models/stories260K/stories260K-f32.gguf';
test('copying a real model gives every byte of it again', { skip: skipWithout(stories) }, async (t) => {
  const original = openGguf(sharedPath(stories));
  const path = join(temporaryFolder(t), 'copy.gguf');
  const tensors = [...original.tensors.values()].map((tensor) => ({
    ...tensor,
    data: function* () {
      for (const chunk of tensorChunks(tensor, 5000)) yield chunk.bytes;
    },
  }));
  await writeGguf(path, { metadata: original.metadata, tensors });
  assert.ok(readFileSync(path).equals(readFileSync(sharedPath(stories))));
});

test('what ggml would not load is not written, and nothing incomplete stays', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'bad.gguf');
  const refuses = async (contents: Partial<GgufContents>, message: RegExp) => {
    const write = writeGguf(path, { metadata: [], tensors: [], ...contents });
    await assert.rejects(write, { code: 'CHECKPOINT_WRITE_INVALID', message });
    assert.ok(!existsSync(path));
  };
  const tensor: GgufTensor = { name: 't', dtype: 'f32', shape: [2], data: new Uint8Array(8) };
  await refuses({ tensors: [{ ...tensor, name: 'n'.repeat(64) }] }, /63 bytes that ggml loads/);
  await refuses({ tensors: [tensor, tensor] }, /'t' is given twice/);
  await refuses({ tensors: [{ ...tensor, shape: [1, 1, 1, 1, 2] }] }, /5 dimensions/);
  await refuses({ tensors: [{ ...tensor, shape: [172], dtype: 'q8_0' }] }, /multiples of 32/);
  await refuses({ tensors: [{ ...tensor, shape: [-2] }] }, /cannot be stored/);
  await refuses({ tensors: [{ ...tensor, data: new Uint8Array(7) }] }, /needs 8 bytes, but 7 were given/);
  await refuses({ tensors: [{ ...tensor, data: new Uint8Array(9) }] }, /needs 8 bytes, but more were given/);
  await refuses({ alignmentBytes: 24 }, /no power of two/);
  const stated: [string, GgufValue][] = [['general.alignment', { type: 'u32', value: 64 }]];
  await refuses(
    { alignmentBytes: 32, metadata: stated },
    /is 32, but the metadata's general\.alignment is 64/,
  );
  await refuses({ metadata: [['k', { type: 'u8', value: 256 }]] }, /metadata key 'k'/);
  await refuses({ metadata: [['k', { type: 'i32', value: 0.5 }]] }, /no whole number/);
  await refuses({ metadata: [['k', { type: 'u64', value: -1 }]] }, /metadata key 'k'/);
  await refuses({ metadata: [metadata[0]!, metadata[0]!] }, /given twice/);
  const failing: GgufTensor = {
    ...tensor,
    data: () => {
      throw new Error('the source broke');
    },
  };
  await assert.rejects(writeGguf(path, { metadata: [], tensors: [failing] }), /the source broke/);
  assert.ok(!existsSync(path));
  const nowhere = writeGguf(join(folder, 'none', 'x.gguf'), { metadata: [], tensors: [] });
  await assert.rejects(nowhere, { code: 'CHECKPOINT_WRITE_FAILED' });
});

interface ShardOptions {
  index: number;
  count: number;
  tensor?: string;
  total?: number;
}

async function writeShard(folder: string, fileNumber: number, options: ShardOptions): Promise<void> {
  const { index, count, tensor = `blk.${index}.weight`, total = count } = options;
  const path = join(folder, shardFileName({ prefix: 'model', number: fileNumber, count }));
  await writeGguf(path, {
    metadata: [
      ['split.no', { type: 'u16', value: index }],
      ['split.count', { type: 'u16', value: count }],
      ['split.tensors.count', { type: 'i32', value: total }],
    ],
    tensors: [{ name: tensor, dtype: 'f32', shape: [1], data: new Uint8Array(4).fill(index) }],
  });
}

test('a split model opens from its first file with all its tensors', async (t) => {
  const folder = temporaryFolder(t);
  for (const index of [0, 1, 2]) await writeShard(folder, index + 1, { index, count: 3 });
  const file = openGguf(join(folder, 'model-00001-of-00003.gguf'));
  assert.equal(file.files.length, 3);
  assert.deepEqual([...file.tensors.keys()], ['blk.0.weight', 'blk.1.weight', 'blk.2.weight']);
  assert.deepEqual(readTensor(file.tensor('blk.2.weight')), Buffer.alloc(4, 2));
  const later = () => openGguf(join(folder, 'model-00002-of-00003.gguf'));
  assert.throws(later, { code: 'GGUF_SPLIT_INVALID', message: /open model-00001-of-00003\.gguf instead/ });
});

test('shards that are missing, foreign or doubled are named', async (t) => {
  const missing = temporaryFolder(t);
  await writeShard(missing, 1, { index: 0, count: 3 });
  const open = (folder: string) => () => openGguf(join(folder, 'model-00001-of-00003.gguf'));
  assert.throws(open(missing), {
    code: 'CHECKPOINT_INCOMPLETE',
    message: /00002-of-00003\.gguf, .*are missing/,
  });

  const wrongOrder = temporaryFolder(t);
  for (const [position, index] of [0, 2, 1].entries())
    await writeShard(wrongOrder, position + 1, { index, count: 3 });
  assert.throws(open(wrongOrder), { code: 'GGUF_SPLIT_INVALID', message: /00002.* is not shard 2/ });

  const doubled = temporaryFolder(t);
  for (const index of [0, 1, 2]) await writeShard(doubled, index + 1, { index, count: 3, tensor: 'same' });
  assert.throws(open(doubled), { code: 'GGUF_SPLIT_INVALID', message: /'same' is in an earlier shard/ });

  const short = temporaryFolder(t);
  for (const index of [0, 1, 2]) await writeShard(short, index + 1, { index, count: 3, total: 4 });
  assert.throws(open(short), { code: 'GGUF_SPLIT_INVALID', message: /hold 3 tensors.* says 4/ });

  const renamed = join(temporaryFolder(t), 'renamed.gguf');
  await writeGguf(renamed, { metadata: [['split.count', { type: 'u16', value: 2 }]], tensors: [] });
  assert.throws(() => openGguf(renamed), { code: 'GGUF_SPLIT_INVALID', message: /is not named/ });
  const absurd = join(temporaryFolder(t), 'absurd.gguf');
  await writeGguf(absurd, { metadata: [['split.count', { type: 'u32', value: 4e9 }]], tensors: [] });
  assert.throws(() => openGguf(absurd), { code: 'GGUF_LIMIT' });
});

// Only CheckpointError may come out of the readers, soon, whatever the bytes. NEREID_FUZZ_MS is each fuzzer's time; a failure prints
// the seed and path for fast-check, and NEREID_FUZZ_SEED replays it.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  rawGguf,
  rawSafetensors,
  tensorInfo,
  text,
  u8,
  u32,
  u64,
} from '../../test/support/checkpoint-files.ts';
import { sharedPath } from '../../test/support/shared.ts';
import { type ByteSource, MemorySource } from './byte-source.ts';
import { CheckpointError } from './errors.ts';
import { parseGguf } from './gguf-reader.ts';
import { parseSafetensors } from './safetensors.ts';
import { rowLayout, type StoredTensor } from './tensor-file.ts';

const fuzzMs = Number(process.env.NEREID_FUZZ_MS ?? 3000);
const seed = process.env.NEREID_FUZZ_SEED ? Number(process.env.NEREID_FUZZ_SEED) : undefined;

type Parse = (source: ByteSource) => { tensors: ReadonlyMap<string, StoredTensor> };

/** What a reader accepted must be usable: every tensor inside the file, with whole rows. */
function checkAccepted(tensors: ReadonlyMap<string, StoredTensor>, sizeBytes: number): void {
  for (const tensor of tensors.values()) {
    const { rows, rowBytes } = rowLayout(tensor);
    assert.equal(rows * rowBytes, tensor.byteLength);
    assert.ok(
      tensor.offset >= 0 && (tensor.byteLength === 0 || tensor.offset + tensor.byteLength <= sizeBytes),
    );
  }
}

function survives(parse: Parse, bytes: Uint8Array): void {
  try {
    checkAccepted(parse(new MemorySource(bytes)).tensors, bytes.length);
  } catch (thrown) {
    if (!(thrown instanceof CheckpointError)) throw thrown;
  }
}

function fuzz(parse: Parse, bytes: fc.Arbitrary<Uint8Array>): void {
  const property = fc.property(bytes, (input) => survives(parse, input));
  fc.assert(property, { interruptAfterTimeLimit: fuzzMs, numRuns: Number.MAX_SAFE_INTEGER, seed });
}

interface Mutation {
  at: number;
  bytes: Uint8Array;
  kind: 'overwrite' | 'insert' | 'delete' | 'cut';
}

/** Numbers that counts, lengths and offsets go wrong with. */
const extremes = [
  0,
  1,
  31,
  32,
  33,
  255,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
  2n ** 63n,
  2n ** 64n - 1n,
];

const mutation: fc.Arbitrary<Mutation> = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  bytes: fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 16 }),
    fc.constantFrom(...extremes).map((value) => new Uint8Array(u64(value))),
    fc.constantFrom(...'{}[]",:0-\\').map((character) => new Uint8Array(Buffer.from(character))),
  ),
  kind: fc.constantFrom('overwrite', 'insert', 'delete', 'cut'),
});

/** Mutates the first `headBytes` bytes: that is where the readers look. */
function mutated(original: Buffer, headBytes: number): fc.Arbitrary<Uint8Array> {
  return fc.array(mutation, { minLength: 1, maxLength: 6 }).map((mutations) => {
    let bytes: Buffer = Buffer.from(original);
    for (const { at, bytes: change, kind } of mutations) {
      const position = Math.floor(at * Math.min(headBytes, bytes.length));
      const before = bytes.subarray(0, position);
      if (kind === 'cut') bytes = before;
      else if (kind === 'delete') bytes = Buffer.concat([before, bytes.subarray(position + change.length)]);
      else if (kind === 'insert') bytes = Buffer.concat([before, change, bytes.subarray(position)]);
      else bytes = Buffer.concat([before, change, bytes.subarray(position + change.length)]);
    }
    return bytes;
  });
}

const smallGguf = rawGguf({
  entries: [
    Buffer.concat([text('general.architecture'), u32(8), text('llama')]),
    Buffer.concat([text('general.alignment'), u32(4), u32(32)]),
    Buffer.concat([text('words'), u32(9), u32(8), u64(2), text('one'), text('two')]),
    Buffer.concat([text('nested'), u32(9), u32(9), u64(1), u32(7), u64(2), u8(1), u8(0)]),
    Buffer.concat([text('long'), u32(10), u64(7)]),
  ],
  tensors: [tensorInfo('a', [32, 2], 2, 0), tensorInfo('b', [4], 0, 64)],
  data: Buffer.alloc(80),
});

const smallSafetensors = rawSafetensors(
  {
    __metadata__: { format: 'pt' },
    a: { dtype: 'F32', shape: [2, 1], data_offsets: [0, 8] },
    b: { dtype: 'BF16', shape: [4], data_offsets: [8, 16] },
    c: { dtype: 'BOOL', shape: [], data_offsets: [16, 17] },
  },
  Buffer.alloc(17),
);

/** A real file where it is there, else the small one again. */
function realOr(path: string, small: Buffer): Buffer {
  return existsSync(sharedPath(path)) ? readFileSync(sharedPath(path)) : small;
}

const realGguf = realOr('models/stories260K/stories260K-f32.gguf', smallGguf);
/** Vocabulary only: the whole file is metadata, strings above all. */
const realVocabulary = realOr('models/tokenizers/gguf-vocab/ggml-vocab-bert-bge.gguf', smallGguf);
const realSafetensors = realOr('models/stories260K-lora-zed/adapter_model.safetensors', smallSafetensors);
const randomBytes = fc.uint8Array({ maxLength: 512 });

test('the fuzzers start from files that the readers accept', () => {
  assert.equal(parseGguf(new MemorySource(smallGguf)).tensors.size, 2);
  assert.equal(parseSafetensors(new MemorySource(smallSafetensors)).tensors.size, 2);
});

test('a canary that must fail: the fuzzer finds an unchecked read', () => {
  const careless: Parse = (source) => {
    const bytes = Buffer.alloc(8);
    source.readInto(0, bytes);
    return { tensors: new Map([['t', { ...canaryTensor, byteLength: bytes.readUInt8(0) }]]) };
  };
  assert.throws(() => fuzz(careless, mutated(smallGguf, 64)), /seed/);
});

const canaryTensor: StoredTensor = {
  name: 't',
  dtype: 'f32',
  shape: [1],
  path: '',
  offset: 0,
  byteLength: 4,
};

test('GGUF: mutated small files', () => fuzz(parseGguf, mutated(smallGguf, smallGguf.length)));
test('GGUF: mutated real model', () => fuzz(parseGguf, mutated(realGguf, 16 * 1024)));
test('GGUF: mutated real vocabulary', () => fuzz(parseGguf, mutated(realVocabulary, 640 * 1024)));
test('GGUF: random bytes behind a valid start', () => {
  const start = Buffer.concat([Buffer.from('GGUF'), u32(3)]);
  fuzz(
    parseGguf,
    fc.oneof(
      randomBytes,
      randomBytes.map((bytes) => Buffer.concat([start, bytes])),
    ),
  );
});
test('safetensors: mutated small files', () =>
  fuzz(parseSafetensors, mutated(smallSafetensors, smallSafetensors.length)));
test('safetensors: mutated real file', () => fuzz(parseSafetensors, mutated(realSafetensors, 2520)));
test('safetensors: any JSON, and random bytes', () => {
  const json = fc.json().map((text) => rawSafetensors(text, Buffer.alloc(16)));
  fuzz(
    parseSafetensors,
    fc.oneof(
      randomBytes,
      json,
      randomBytes.map((bytes) => rawSafetensors(Buffer.from(bytes).toString('latin1'))),
    ),
  );
});

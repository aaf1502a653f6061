import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { uniform } from '../../base/random.ts';
import { rope } from '../reference/ops/rope.ts';
import { tryLoad } from './ffi.ts';
import { findHeaders, findLibrary, libraries, libraryFolders } from './find-libraries.ts';
import { architectureOf } from './gpu.ts';
import { openDevice } from './index.ts';
import { float, int, packArguments, pointer } from './launch.ts';
import { splitsOf } from './lower-attention.ts';
import { splitsOfProduct } from './lower-sums.ts';
import { moduleKey } from './module-cache.ts';
import { ropeFrequencies, ropeMagnitude } from './rope-table.ts';
import {
  bucketOf,
  decodeBuckets,
  emptyStep,
  picksLogits,
  roundRows,
  StepLayout,
  stepNeeds,
} from './step-layout.ts';
import { placeRegions, type Region } from './views.ts';

const region = (bytes: number, firstUse: number, lastUse: number): Region => ({ bytes, firstUse, lastUse });

test('regions that live at the same time never overlap, and others share memory', () => {
  const regions = [
    region(1000, 0, 2),
    region(3000, 1, 5),
    region(500, 3, 4),
    region(2000, 4, 9),
    region(100, 6, 6),
  ];
  const total = placeRegions(regions);
  for (const a of regions) {
    for (const b of regions) {
      if (a === b || a.lastUse < b.firstUse || b.lastUse < a.firstUse) continue;
      const apart = a.offset! + a.bytes <= b.offset! || b.offset! + b.bytes <= a.offset!;
      assert.ok(apart, `${a.offset} and ${b.offset}`);
    }
  }
  assert.ok(total < regions.reduce((sum, { bytes }) => sum + bytes, 0));
});

test('arguments are packed as a C struct: each aligned to its size', () => {
  const view = new DataView(new ArrayBuffer(64));
  const bytes = packArguments(view, 8, [int(7), pointer(0x1234), float(0.5), int(-1), pointer(9)]);
  assert.equal(bytes, 32);
  assert.equal(view.getInt32(8, true), 7);
  assert.equal(view.getBigUint64(16, true), 0x1234n);
  assert.equal(view.getFloat32(24, true), 0.5);
  assert.equal(view.getInt32(28, true), -1);
  assert.equal(view.getBigUint64(32, true), 9n);
});

test('a step is written with its padding, its decode items and its prefill pieces', () => {
  const step = {
    tokens: Int32Array.from([5, -1, ...Array.from({ length: 130 }, () => 8)]),
    positions: Int32Array.from([0, 33, ...Array.from({ length: 130 }, (_, k) => 10 + k)]),
    outputRows: Int32Array.of(0, 1, 131),
    segments: 3,
    segmentRows: Int32Array.of(1, 1, 130),
    kvLengths: Int32Array.of(1, 34, 140),
    blockStarts: Int32Array.of(0, 1, 3),
    blocks: Int32Array.of(7, 2, 4, 10, 11, 12, 13, 14),
    sampling: {
      temperature: Float64Array.of(0, 0.5, 0),
      topK: Int32Array.of(0, 40, 0),
      topP: Float64Array.of(1, 0.5, 1),
      minP: Float64Array.of(0, 0.5, 0),
      seed: Float64Array.of(0, 2 ** 40 + 3, 0),
      sequence: Int32Array.of(0, 2, 0),
      position: Int32Array.of(1, 34, 140),
    },
  };
  const needs = stepNeeds(step);
  assert.deepEqual(needs, {
    ...{ rows: 132, outputRows: 3, logitRows: 3, decodeItems: 2, prefillItems: 2 },
    ...{ hasHidden: false, hasAdapters: false },
  });
  const bucket = bucketOf(needs);
  assert.deepEqual(bucket, {
    ...{ rows: 192, outputRows: 8, logitRows: 8, decodeItems: 4, prefillItems: 4 },
    ...{ hasHidden: false, hasAdapters: false },
  });
  const layout = new StepLayout(bucket);
  const words = new Int32Array(layout.blocks + 16).fill(99);
  const floats = new Float32Array(words.buffer);
  const doubles = new Float64Array(words.buffer);
  const used = layout.write({ words, floats, doubles }, step, 32, 640);
  assert.equal(used, layout.blocks + 8);
  const at = (start: number, count: number) => [...words.subarray(start, start + count)];
  assert.deepEqual(at(layout.tokens, 3), [5, -1, 8]);
  assert.deepEqual(
    at(layout.tokens + 132, 28),
    Array.from({ length: 28 }, () => 0),
  );
  // Block · 32 + offset; position 33 lies in its sequence's second block.
  assert.deepEqual(at(layout.kvPlaces, 3), [7 * 32, 4 * 32 + 1, 10 * 32 + 10]);
  assert.deepEqual(at(layout.kvPlaces + 132, 2), [640, 640]);
  assert.deepEqual(at(layout.tables, 3), [0, 1, 3]);
  assert.equal(words[layout.tables + 132], -1);
  assert.deepEqual(at(layout.decodeItems, 8), [0, 1, 0, 0, 1, 34, 1, 1]);
  assert.deepEqual(at(layout.decodeItems + 8, 4), [0, 0, 0, 4]);
  assert.equal(words[layout.prefillCount], 2);
  assert.deepEqual(at(layout.prefillItems, 8), [2, 128, 10, 3, 130, 2, 138, 3]);
  assert.deepEqual(at(layout.blocks, 8), [...step.blocks]);
  assert.deepEqual(
    [0, 1, 2, 3].map((row) => words[layout.sampling + row * 16]),
    [0, 1, 0, 0],
  );
  assert.deepEqual([...floats.subarray(layout.sampling + 17, layout.sampling + 18)], [2]);
  assert.equal(words[layout.sampling + 18], 40);
  assert.equal(doubles[(layout.sampling + 16) / 2 + 3], uniform(2 ** 40 + 3, 2, 34));
  // Addresses are 64 bits wide, and of rows that need none they are 0.
  const samplingRows = {
    states: Float64Array.of(0, 5 * 2 ** 32 + 2 ** 31, 0),
    adjusted: Float64Array.of(0, 256, 0),
    logprobs: Float64Array.of(0, 0, 512),
    top: 3,
  };
  layout.write({ words, floats, doubles }, { ...step, samplingRows }, 32, 640);
  assert.deepEqual(at(layout.sampling + 16 + 8, 7), [-(2 ** 31), 5, 256, 0, 0, 0, 3]);
  assert.deepEqual(at(layout.sampling + 32 + 8, 7), [0, 0, 0, 0, 512, 0, 3]);
  layout.write({ words, floats, doubles }, step, 32, 640);
  assert.deepEqual(at(layout.sampling + 16 + 8, 6), [0, 0, 0, 0, 0, 0]);
});

test('a step of adapters says each row’s slot; padded rows run the model as it is', () => {
  const step = {
    tokens: Int32Array.of(5, 6, 7, 8),
    positions: Int32Array.of(0, 1, 2, 9),
    outputRows: Int32Array.of(2, 3),
    segments: 2,
    segmentRows: Int32Array.of(3, 1),
    kvLengths: Int32Array.of(3, 10),
    blockStarts: Int32Array.of(0, 1),
    blocks: Int32Array.of(1, 2),
    adapters: Int32Array.of(4, -1),
    sampling: plainSampling(2),
  };
  const bucket = bucketOf(stepNeeds(step));
  assert.ok(bucket.hasAdapters);
  const layout = new StepLayout(bucket);
  const words = new Int32Array(layout.blocks + 2).fill(99);
  const memory = { words, floats: new Float32Array(words.buffer), doubles: new Float64Array(0) };
  layout.write(memory, step, 32, 640);
  assert.deepEqual([...words.subarray(layout.adapters, layout.adapters + 6)], [4, 4, 4, -1, -1, -1]);
  assert.deepEqual([...words.subarray(layout.blocks)], [1, 2]);
  assert.ok(!stepNeeds({ ...step, adapters: Int32Array.of(-1, -1) }).hasAdapters);
});

test('rows of logits say which output row they are, where not all get some', () => {
  const step = {
    tokens: Int32Array.from({ length: 20 }, (_, k) => k),
    positions: Int32Array.from({ length: 20 }, (_, k) => k),
    outputRows: Int32Array.from({ length: 20 }, (_, k) => k),
    ends: { logitRows: Int32Array.of(3, 19), logitPlaces: new Int32Array(20).fill(-1) },
    segments: 1,
    segmentRows: Int32Array.of(20),
    kvLengths: Int32Array.of(20),
    blockStarts: Int32Array.of(0),
    blocks: Int32Array.of(1),
    sampling: plainSampling(20),
  };
  const layout = new StepLayout(bucketOf(stepNeeds(step)));
  assert.equal(layout.bucket.logitRows, 8);
  const words = new Int32Array(layout.blocks + 2).fill(99);
  const memory = { words, floats: new Float32Array(words.buffer), doubles: new Float64Array(words.buffer) };
  layout.write(memory, step, 32, 640);
  assert.deepEqual([...words.subarray(layout.logitRows, layout.logitRows + 4)], [3, 19, 0, 0]);
  assert.deepEqual([...words.subarray(layout.logitBatchRows, layout.logitBatchRows + 3)], [3, 19, 0]);
  const outputs = Array.from({ length: 8 }, (_, place) => words[layout.sampling + place * 16 + 15]);
  assert.deepEqual(outputs, [3, 19, -1, -1, -1, -1, -1, -1]);
});

function plainSampling(rows: number) {
  const column = () => new Float64Array(rows);
  return {
    ...{ temperature: column(), topP: column().fill(1), minP: column(), seed: column() },
    ...{ topK: new Int32Array(rows), sequence: new Int32Array(rows), position: new Int32Array(rows) },
  };
}

test('buckets are few, and hold what they are asked for', () => {
  const sizes = new Set<number>();
  for (let rows = 1; rows <= 8192; rows++) {
    const rounded = roundRows(rows);
    assert.ok(rounded >= rows);
    sizes.add(rounded);
  }
  assert.ok(sizes.size <= 60, `${sizes.size} sizes`);
  const needs = { rows: 9, outputRows: 9, logitRows: 9, hasHidden: false, decodeItems: 9 };
  assert.deepEqual(bucketOf({ ...needs, prefillItems: 0, hasAdapters: true }), {
    ...{ rows: 16, outputRows: 16, logitRows: 16, hasHidden: false, decodeItems: 16, prefillItems: 0 },
    hasAdapters: true,
  });
  // Hidden states of all rows of a prompt, and logits of none or of a few of them.
  const hidden = {
    ...needs,
    rows: 300,
    outputRows: 300,
    hasHidden: true,
    prefillItems: 3,
    hasAdapters: false,
  };
  assert.equal(bucketOf({ ...hidden, logitRows: 0 }).logitRows, 0);
  const few = bucketOf({ ...hidden, logitRows: 10 });
  assert.deepEqual([few.outputRows, few.logitRows, picksLogits(few)], [320, 16, true]);
  assert.ok(!picksLogits(bucketOf({ ...hidden, logitRows: 300 })));
});

test('warming up goes through the buckets of decoding once each, in steps that are all padding', () => {
  const buckets = decodeBuckets(40);
  assert.deepEqual(
    buckets.map(({ rows }) => rows),
    [1, 2, 3, 4, 5, 6, 7, 8, 16, 24, 32, 40],
  );
  assert.deepEqual(decodeBuckets(0), []);
  const layout = new StepLayout(buckets[8]!);
  const words = new Int32Array(layout.blocks + 2).fill(99);
  const memory = { words, floats: new Float32Array(words.buffer), doubles: new Float64Array(words.buffer) };
  assert.equal(layout.write(memory, emptyStep, 32, 640), layout.blocks);
  assert.ok(words.subarray(layout.kvPlaces, layout.kvPlaces + 16).every((place) => place === 640));
  assert.ok(words.subarray(layout.decodeItems, layout.prefillCount).every((word) => word === 0));
});

test('few sequences are split over many blocks, many are not', () => {
  assert.equal(splitsOf(1, 8, 132), 32);
  assert.equal(splitsOf(16, 8, 132), 3);
  assert.equal(splitsOf(256, 8, 132), 1);
});

test('a product’s sum is cut in two where its tiles would leave half of the GPU idle', () => {
  assert.equal(splitsOfProduct(256, 4096, 14336, 132), 2);
  assert.equal(splitsOfProduct(64, 4096, 4096, 132), 2);
  assert.equal(splitsOfProduct(512, 4096, 4096, 132), 1);
  assert.equal(splitsOfProduct(64, 28672, 4096, 132), 1);
  assert.equal(splitsOfProduct(64, 256, 384, 132), 1);
});

test('rope as a table of frequencies is the reference device’s', () => {
  const yarn = {
    originalContextLength: 32,
    extrapolationFactor: 1,
    attentionFactor: 1.2,
    betaFast: 32,
    betaSlow: 1,
  };
  const plain = { mode: 'half', dimensions: 16, theta: 1e4, frequencyScale: 1 } as const;
  for (const attributes of [
    plain,
    { ...plain, frequencyScale: 0.25 },
    { ...plain, frequencyScale: 0.25, yarn },
  ]) {
    const factors = Float32Array.from({ length: 8 }, (_, k) => 1 + k / 4);
    const x = Float32Array.from({ length: 16 }, (_, k) => (k < 8 ? 1 : 0));
    const turned = rope(x, Int32Array.of(37), factors, 16, attributes);
    const table = ropeFrequencies(attributes, factors);
    for (let pair = 0; pair < 8; pair++) {
      const expected = Math.cos(37 * table[pair]!) * ropeMagnitude(attributes);
      assert.ok(Math.abs(turned[pair]! - expected) < 1e-5, `pair ${pair}`);
    }
  }
});

test('libraries and headers are found in wheels of a virtual environment; what is missing comes with the fix', () => {
  const root = mkdtempSync(join(tmpdir(), 'nereid-cuda-'));
  try {
    const places = { environment: { VIRTUAL_ENV: root, PATH: '' }, home: join(root, 'home') };
    assert.ok(!libraryFolders(places).some((folder) => folder.startsWith(root)));
    const wheel = join(root, 'lib/python3.12/site-packages/nvidia/cu13');
    mkdirSync(join(wheel, 'lib'), { recursive: true });
    mkdirSync(join(wheel, 'include'));
    writeFileSync(join(wheel, 'include/cuda_bf16.h'), '');
    assert.ok(libraryFolders(places).includes(join(wheel, 'lib')));
    assert.equal(
      findHeaders({ ...places, environment: { VIRTUAL_ENV: root } }, [join(wheel, 'include')]),
      join(wheel, 'include'),
    );
    writeFileSync(join(wheel, 'lib/libnvrtc.so.13'), 'no library');
    const nowhere = { environment: {}, home: root };
    const attempt = () => findLibrary('cublasLt', nowhere, [join(wheel, 'lib')]);
    // Machines with CUDA have one of their own, which the loader or the known places give.
    const isInstalled =
      libraries.cublasLt.files.some((file) => tryLoad(file)) ||
      libraryFolders(nowhere).some((folder) => existsSync(join(folder, libraries.cublasLt.files[0])));
    if (isInstalled) assert.match(attempt().path, /libcublasLt\.so/);
    else assert.throws(attempt, /pip install nvidia-cublas.*--device-option library=FOLDER/);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('a compiled kernel belongs to its source, macros and target', () => {
  const key = moduleKey(['a'], { X: 1, Y: 2 }, ['sm_90a', '13.0']);
  assert.equal(moduleKey(['a'], { Y: 2, X: 1 }, ['sm_90a', '13.0']), key);
  assert.notEqual(moduleKey(['b'], { X: 1, Y: 2 }, ['sm_90a', '13.0']), key);
  assert.notEqual(moduleKey(['a'], { X: 1, Y: 3 }, ['sm_90a', '13.0']), key);
  assert.notEqual(moduleKey(['a'], { X: 1, Y: 2 }, ['sm_89', '13.0']), key);
  assert.equal(architectureOf(90), 'sm_90a');
  assert.equal(architectureOf(89), 'sm_89');
});

test('options that the device does not have are refused before anything is loaded', () => {
  assert.throws(
    () => openDevice({ speed: 'high' }),
    /no option 'speed'; it has gpu, library, activations, matrices, weights, warm-up/,
  );
  assert.throws(() => openDevice({ activations: 'f64' }), /activations is 'f64': give auto, f32, f16, bf16/);
  assert.throws(() => openDevice({ matrices: 'int4' }), /matrices is 'int4': give auto, fp8/);
  assert.throws(() => openDevice({ weights: 'zero' }), /weights is 'zero': give random:SEED/);
  assert.throws(
    () => openDevice({ 'warm-up': '4000' }),
    /warm-up is '4000': give how many sequences, 0 to 2048/,
  );
});

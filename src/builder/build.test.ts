import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { sharedPath, skipWithout } from '../../test/support/shared.ts';
import { openGguf } from '../checkpoint/gguf-reader.ts';
import { openTokenizer } from '../tokenizer/open.ts';
import { buildEngine } from './build.ts';
import { buildRandomEngine } from './build-random.ts';
import { type BuildDtype, type BuildRecipe, buildDtypes, defaultRecipe } from './config.ts';
import { contentHash, readEngine, verifyEngine } from './engine-folder.ts';
import type { EngineManifest } from './manifest.ts';
import { openEngine } from './open-engine.ts';
import { deviceOf } from './targets.ts';

const skip = skipWithout('models/stories260K');
const folder = mkdtempSync(join(tmpdir(), 'nereid-build-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const huggingFace = sharedPath('models/stories260K');
const gguf = sharedPath('models/stories260K/stories260K-f32.gguf');

let count = 0;
async function build(
  source: string,
  recipe: Partial<BuildRecipe> = {},
): Promise<{ output: string; manifest: EngineManifest }> {
  const output = join(folder, `engine-${count++}`);
  const { manifest } = await buildEngine({
    source,
    name: 'stories',
    output,
    recipe: { ...defaultRecipe, ...recipe },
  });
  return { output, manifest };
}

/** Every file of a folder with its bytes. */
function contents(path: string): Record<string, string> {
  const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    files.map((entry) => {
      const full = join(entry.parentPath, entry.name);
      return [full.slice(path.length), readFileSync(full).toString('base64')];
    }),
  );
}

for (const source of ['hugging-face', 'gguf'] as const) {
  for (const dtype of ['auto', ...buildDtypes] as const) {
    test(`${source} → ${dtype}: the engine opens, its hashes hold, its types are the recipe's`, {
      skip,
    }, async () => {
      const { output, manifest } = await build(source === 'gguf' ? gguf : huggingFace, { dtype });
      assert.deepEqual(await verifyEngine(output), manifest);
      assert.equal(manifest.source.kind, source);
      assert.equal(manifest.vocabularySize, 512);
      assert.equal(manifest.contextLength, 512);
      const file = openGguf(join(output, 'rank0.gguf'));
      assert.equal(file.tensor('blk.0.attn_norm.weight').dtype, 'f32');
      assert.equal(file.tensor('blk.0.ffn_down.weight').dtype, expectedOfRows172(dtype));
      const opened = await openEngine(output);
      assert.equal(opened.source.vocabularySize, 512);
      const tokenizer = await openTokenizer(join(output, 'tokenizer'));
      assert.ok(tokenizer.encode('Once upon a time').length > 1);
    });
  }
}

/** Rows of 172 fit no block, so what is quantized falls back to f16. */
function expectedOfRows172(dtype: 'auto' | BuildDtype): string {
  if (dtype === 'auto' || dtype === 'f32') return 'f32';
  return dtype === 'bf16' ? 'bf16' : 'f16';
}

test('exceptions are listed with their reason', { skip }, async () => {
  const { manifest } = await build(huggingFace, { dtype: 'q8_0' });
  assert.deepEqual(
    manifest.quantization.exceptions.find(({ tensor }) => tensor === 'blk.0.ffn_down.weight'),
    {
      tensor: 'blk.0.ffn_down.weight',
      dtype: 'f16',
      reason: "rows of 172 are no multiple of q8_0's block of 32",
    },
  );
  assert.equal(manifest.quantization.exceptions.length, 5);
});

// The GGUF file has a copy of the tied embedding besides, which the other engine needs not.
test('both kinds of checkpoint give the same weights', { skip }, async () => {
  for (const dtype of ['f32', 'q8_0'] as const) {
    const [first, second] = [await build(huggingFace, { dtype }), await build(gguf, { dtype })];
    const [a, b] = [openGguf(join(first.output, 'rank0.gguf')), openGguf(join(second.output, 'rank0.gguf'))];
    for (const [name, other] of a.tensors) {
      const tensor = b.tensor(name);
      const bytes = (path: string, at: { offset: number; byteLength: number }) =>
        readFileSync(path).subarray(at.offset, at.offset + at.byteLength);
      assert.deepEqual(bytes(other.path, other), bytes(tensor.path, tensor), name);
    }
  }
});

test('equal inputs give equal bytes, whatever the threads', { skip }, async () => {
  const recipe = { ...defaultRecipe, dtype: 'q8_0' as const };
  const outputs = [1, 2].map((threads) => ({ threads, output: join(folder, `same-${threads}`) }));
  for (const { threads, output } of outputs)
    await buildEngine({ source: huggingFace, name: 's', output, recipe, threads });
  assert.deepEqual(contents(outputs[0]?.output ?? ''), contents(outputs[1]?.output ?? ''));
});

test('a GGUF file that stays as it is, is linked and not copied', { skip }, async () => {
  const own = join(folder, 'own.gguf');
  writeFileSync(own, readFileSync(gguf));
  const { output } = await build(own);
  assert.equal(statSync(join(output, 'rank0.gguf')).ino, statSync(own).ino);
});

test('overrides and a shorter context are kept', { skip }, async () => {
  const tensors = [{ pattern: 'blk.*.attn_q.weight', dtype: 'f32' as const }];
  const { output, manifest } = await build(huggingFace, { dtype: 'f16', tensors, contextLengthMax: 100 });
  assert.equal(openGguf(join(output, 'rank0.gguf')).tensor('blk.2.attn_q.weight').dtype, 'f32');
  assert.equal(manifest.contextLength, 100);
  assert.equal((await openEngine(output)).source.contextLength, 100);
});

test('a truncated or changed engine is refused; a missing manifest too', { skip }, async () => {
  const { output } = await build(huggingFace, { dtype: 'f16' });
  const weights = join(output, 'rank0.gguf');
  const bytes = readFileSync(weights);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  writeFileSync(weights, bytes);
  readEngine(output);
  await assert.rejects(verifyEngine(output), {
    code: 'ENGINE_FILE_CHANGED',
    message: /does not match its hash/,
  });
  truncateSync(weights, bytes.length - 100);
  assert.throws(() => readEngine(output), { code: 'ENGINE_FILE_CHANGED', message: /truncated or changed/ });
  await assert.rejects(openEngine(output), { code: 'ENGINE_FILE_CHANGED' });
  rmSync(weights);
  assert.throws(() => readEngine(output), { code: 'ENGINE_FILE_MISSING' });
  rmSync(join(output, 'engine.json'));
  assert.throws(() => readEngine(output), { code: 'ENGINE_NOT_FOUND' });
});

test('a manifest of another version, or with paths that leave the folder, is refused', { skip }, async () => {
  const { output, manifest } = await build(gguf);
  const write = (value: unknown) => writeFileSync(join(output, 'engine.json'), JSON.stringify(value));
  write({ ...manifest, formatVersion: 2 });
  assert.throws(() => readEngine(output), {
    code: 'ENGINE_FORMAT_VERSION',
    message: /version 2; this Nereid reads version 1/,
  });
  write({ ...manifest, files: [{ path: '../secret', bytes: 1, sha256: '0'.repeat(64) }] });
  assert.throws(() => readEngine(output), { code: 'ENGINE_MANIFEST_INVALID' });
  write({ ...manifest, files: manifest.files.filter((file) => file.path !== 'rank0.gguf') });
  assert.throws(() => readEngine(output), /lists no hash for rank0\.gguf/);
  writeFileSync(join(output, 'engine.json'), '{"format":');
  assert.throws(() => readEngine(output), { code: 'ENGINE_MANIFEST_INVALID', message: /damaged/ });
});

test('an engine of another ggml release is refused unless allowed', { skip }, async () => {
  const { output, manifest } = await build(gguf);
  const target = { ...manifest.target, ggmlRelease: 'v0.0.1' };
  writeFileSync(join(output, 'engine.json'), JSON.stringify({ ...manifest, target }));
  await assert.rejects(openEngine(output), { code: 'ENGINE_RELEASE_MISMATCH', message: /v0\.0\.1/ });
  await openEngine(output, { allowReleaseMismatch: true });
});

/** A copy of the test model that may be changed (the original is read-only), with another config. */
function changedCopy(name: string, change: Record<string, unknown>): string {
  const copy = join(folder, name);
  mkdirSync(copy);
  for (const file of ['model.safetensors', 'tokenizer.json', 'tokenizer_config.json']) {
    writeFileSync(join(copy, file), readFileSync(join(huggingFace, file)));
  }
  const config = JSON.parse(readFileSync(join(huggingFace, 'config.json'), 'utf8'));
  writeFileSync(join(copy, 'config.json'), JSON.stringify({ ...config, ...change }));
  return copy;
}

test('an unknown architecture lists the known ones, and leaves nothing behind', { skip }, async () => {
  const source = changedCopy('odd', { architectures: ['OddForCausalLM'], model_type: 'odd' });
  const before = readdirSync(folder).length;
  await assert.rejects(build(source), /OddForCausalLM.*LlamaForCausalLM/);
  assert.equal(readdirSync(folder).length, before);
});

test('a checkpoint that lacks a tensor is refused by its name', { skip }, async () => {
  const source = changedCopy('deeper', { num_hidden_layers: 6 });
  await assert.rejects(build(source), /model\.layers\.5\./);
});

test('counts that the checkpoint cannot hold are refused at once, before anything is made for each', {
  skip,
}, async () => {
  const impossible: [Record<string, unknown>, RegExp][] = [
    [{ num_hidden_layers: 2_000_000 }, /num_hidden_layers is 2000000, .* only \d+ tensors/],
    [{ num_hidden_layers: 2 ** 31 - 1 }, /num_hidden_layers is 2147483647/],
    [{ hidden_size: 2 ** 30 }, /width is 1073741824/],
    [{ intermediate_size: 2 ** 31 - 1 }, /feed-forward width is 2147483647/],
    [{ vocab_size: 2 ** 31 - 1 }, /vocabulary is 2147483647/],
    [{ head_dim: 2 ** 30 }, /width of all heads/],
  ];
  for (const [index, [change, expected]] of impossible.entries()) {
    const source = changedCopy(`impossible-${index}`, change);
    await assert.rejects(build(source), (error: Error) => {
      assert.match(error.message, expected);
      return true;
    });
  }
});

test('an aborted build leaves nothing', { skip }, async () => {
  const controller = new AbortController();
  const output = join(folder, 'aborted');
  const reporter = { start() {}, advance: () => controller.abort(), finish() {}, note() {} };
  const recipe = { ...defaultRecipe, dtype: 'f16' as const };
  const work = buildEngine({
    source: huggingFace,
    name: 's',
    output,
    recipe,
    reporter,
    signal: controller.signal,
  });
  await assert.rejects(work, { name: 'AbortError' });
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('aborted')),
    [],
  );
});

test('the content hash is the same for equal engines, and another for other weights of the same shape', {
  skip,
}, async () => {
  const { manifest } = await build(gguf, { dtype: 'f32' });
  assert.equal(contentHash((await build(gguf, { dtype: 'f32' })).manifest), contentHash(manifest));
  // One bit of the last tensor: nothing but the weights differs.
  const bytes = readFileSync(gguf);
  bytes.writeUInt8((bytes.at(-1) ?? 0) ^ 1, bytes.length - 1);
  const other = join(folder, 'other.gguf');
  writeFileSync(other, bytes);
  const changed = await build(other, { dtype: 'f32' });
  assert.equal(changed.manifest.parameters, manifest.parameters);
  assert.notEqual(contentHash(changed.manifest), contentHash(manifest));
});

test('an engine for cuda says so, with what its device is to do; what a target cannot have is refused', {
  skip,
}, async () => {
  const { output, manifest } = await build(gguf, { target: 'cuda', dtype: 'fp8', kvDtype: 'fp8' });
  assert.deepEqual(deviceOf(manifest), { name: 'cuda', options: { matrices: 'fp8' } });
  assert.equal(manifest.kvDtype, 'fp8');
  const { source } = await openEngine(output);
  const types = new Set([...source.weights.values()].map(({ dtype }) => dtype));
  assert.deepEqual([...types].sort(), ['bf16', 'f32'], 'matrices are made e4m3 on the GPU');
  const { manifest: plain } = await build(gguf);
  assert.deepEqual(deviceOf(plain), { name: 'ggml', options: {} });
  await assert.rejects(
    build(gguf, { dtype: 'fp8' }),
    /engine for ggml cannot have --dtype fp8: give auto, f32/,
  );
  await assert.rejects(build(gguf, { kvDtype: 'fp8' }), /for ggml cannot have --kv-dtype fp8: give f16, f32/);
  await assert.rejects(
    build(gguf, { target: 'cuda', dtype: 'q4_k' }),
    /for cuda cannot have --dtype q4_k: give auto, f32, f16, bf16, fp8/,
  );
});

test('an engine of a shape has no weights: each rank says the seed, and its source has the shapes', async () => {
  const recipe = { ...defaultRecipe, target: 'cuda' as const, tensorParallel: 2, contextLengthMax: 4096 };
  const output = join(folder, 'random');
  const request = { shape: 'llama-3.2-1b', seed: 7, name: 'random', output, recipe };
  const { manifest } = await buildRandomEngine(request);
  assert.deepEqual(manifest.ranks, ['rank0.json', 'rank1.json']);
  await verifyEngine(output);
  const { source, tokenizerFolder } = await openEngine(output, { rank: 1 });
  assert.equal(source.contextLength, 4096);
  const down = source.weights.get('blk.0.ffn_down.weight');
  assert.deepEqual(down?.shape, [2048, 4096]);
  assert.equal(down?.path, 'random:7');
  const graph = source.record({ tokens: 2, outputRows: 1 });
  assert.ok(graph.nodes.some(({ op }) => op === 'allReduce'));
  const tokenizer = await openTokenizer(tokenizerFolder!);
  assert.equal(tokenizer.vocabularySize, 128_256);
  assert.deepEqual([...tokenizer.encode('Hi!')], [72, 105, 33]);
  assert.equal(tokenizer.decode([72, 105, 33]), 'Hi!');
  const plain = { ...request, output: join(folder, 'other') };
  await assert.rejects(
    buildRandomEngine({ ...plain, shape: 'gpt-5' }),
    /no shape is called 'gpt-5': give llama-3.2-1b/,
  );
  await assert.rejects(buildRandomEngine({ ...plain, recipe: defaultRecipe }), /give --target cuda/);
});

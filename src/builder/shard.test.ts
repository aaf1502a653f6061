import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { sharedPath, skipWithout } from '../../test/support/shared.ts';
import { definite } from '../base/errors.ts';
import { decodeFloats } from '../checkpoint/floats.ts';
import { type GgufFile, openGguf } from '../checkpoint/gguf-reader.ts';
import { readTensor } from '../checkpoint/tensor-file.ts';
import { buildEngine } from './build.ts';
import { type BuildRecipe, defaultRecipe } from './config.ts';
import { verifyEngine } from './engine-folder.ts';
import { openEngine } from './open-engine.ts';

const skip = skipWithout('models/stories260K');
const folder = mkdtempSync(join(tmpdir(), 'nereid-shard-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const gguf = sharedPath('models/stories260K/stories260K-f32.gguf');
const huggingFace = sharedPath('models/stories260K');

let count = 0;
async function build(recipe: Partial<BuildRecipe>, source = gguf): Promise<string> {
  const output = join(folder, `engine-${count++}`);
  await buildEngine({ source, name: 'stories', output, recipe: { ...defaultRecipe, ...recipe } });
  return output;
}

const floats = (file: GgufFile, name: string): Float32Array => {
  const tensor = file.tensor(name);
  return definite(decodeFloats(tensor.dtype, readTensor(tensor)), name);
};

test('two ranks hold the rows and columns that the manifest says, of every layer; their files are hashed', {
  skip,
}, async () => {
  const output = await build({ tensorParallel: 2 });
  const manifest = await verifyEngine(output);
  assert.deepEqual(manifest.ranks, ['rank0.gguf', 'rank1.gguf']);
  const parts = definite(manifest.parts, 'parts');
  const whole = openGguf(gguf);
  const width = whole.number('llama.embedding_length');
  for (const part of parts) {
    const own = openGguf(join(output, `rank${part.rank}.gguf`));
    const [from, to] = part.feedForward;
    const up = floats(whole, 'blk.1.ffn_up.weight').subarray(from * width, to * width);
    assert.deepEqual(floats(own, 'blk.1.ffn_up.weight'), up.slice());
    const down = floats(whole, 'blk.1.ffn_down.weight');
    const columns = down.length / width;
    const kept = down.filter((_, i) => i % columns >= from && i % columns < to);
    assert.deepEqual(floats(own, 'blk.1.ffn_down.weight'), kept);
    const [first, last] = definite(part.vocabulary[part.rank], 'words');
    const table = floats(whole, 'token_embd.weight');
    assert.deepEqual(floats(own, 'token_embd.weight'), table);
    assert.deepEqual(floats(own, 'output.weight'), table.slice(first * width, last * width));
    const opened = await openEngine(output, { rank: part.rank });
    assert.deepEqual(opened.part, part);
  }
  await assert.rejects(openEngine(output, { rank: 2 }), {
    code: 'ENGINE_RANK_MISSING',
    message: /2 ranks, so it has no rank 2/,
  });
});

test('stages hold their layers only; the first looks tokens up, the last multiplies the output matrix', {
  skip,
}, async () => {
  const output = await build({ pipelineParallel: 2, dtype: 'f16' }, huggingFace);
  const [first, second] = [0, 1].map((rank) => openGguf(join(output, `rank${rank}.gguf`)).tensors);
  assert.ok(
    first?.has('token_embd.weight') && !first.has('output.weight') && !first.has('output_norm.weight'),
  );
  assert.ok(
    second?.has('output.weight') && second.has('output_norm.weight') && !second.has('token_embd.weight'),
  );
  const layersOf = (tensors: ReadonlyMap<string, unknown> = new Map()) =>
    new Set([...tensors.keys()].flatMap((name) => /^blk\.(\d+)\./.exec(name)?.[1] ?? []));
  const common = [...layersOf(first)].filter((layer) => layersOf(second).has(layer));
  assert.deepEqual(common, []);
  assert.equal(layersOf(first).size + layersOf(second).size, 5);
});

test('a quantized row that would be cut inside a block is refused by name, with the override that helps', {
  skip,
}, async () => {
  // Heads of 8 elements: four of them are one block of q8_0, so two ranks fit but four do not.
  await build({
    tensorParallel: 2,
    dtype: 'q8_0',
    tensors: [{ pattern: 'blk.*.ffn_down.weight', dtype: 'f16' }],
  });
  const refused = build({ tensorParallel: 4, dtype: 'q8_0' });
  await assert.rejects(refused, {
    code: 'BUILD_SHARD_BLOCKS',
    message:
      /rank 0 would hold 16 columns of 'blk\.0\.attn_output\.weight'.*--tensor 'blk\.\*\.attn_output\.weight=q8_0' \(or f16\)/,
  });
});

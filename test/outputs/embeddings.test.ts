import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { Engine, type EngineOptions } from '../../src/engine.ts';
import { cosine } from '../../src/generation/vectors.ts';
import { outputRows } from '../../src/runtime/outputs/output-rows.ts';

/** What `tools/goldens/make_embedding_goldens.py` found. */
interface Golden {
  model: string;
  texts: { text: string; ids: number[]; last: number[]; mean: number[] }[];
}

const cache = mkdtempSync(join(packageRoot, '.cache-embeddings-test-'));
process.env.NEREID_CACHE = cache;
after(() => rmSync(cache, { recursive: true, force: true }));

const golden: Golden = JSON.parse(readFileSync(join(packageRoot, 'test/goldens/embeddings.json'), 'utf8'));

interface Place {
  options: EngineOptions;
  /** Texts that it computes. */
  texts: number;
  /** 1 − cosine. */
  distanceMax: number;
}

const places: Place[] = [
  // Plain loops over the whole model: the shortest texts.
  { options: { device: 'reference', isolation: 'none', kvDtype: 'f32' }, texts: 2, distanceMax: 1e-9 },
  { options: { device: 'ggml', isolation: 'process' }, texts: golden.texts.length, distanceMax: 1e-3 },
];

for (const { options, texts, distanceMax } of places) {
  test(`nereid-16m on ${options.device}: embeddings are transformers'`, async (t) => {
    const engine = await Engine.open(join(packageRoot, golden.model), { ...options, maxSequences: 4 });
    t.after(() => engine.close());
    const own = [...golden.texts].sort((a, b) => a.ids.length - b.ids.length).slice(0, texts);
    for (const { text, ids } of own) assert.deepEqual([...engine.model.tokenizer.encode(text)], ids);
    // A text is made meanwhile, in the same batches.
    const beside = engine.generate('The', { maxTokens: 4, temperature: 0, ignoreEos: true }).text();
    const input = own.map(({ text }) => text);
    for (const pooling of ['last', 'mean'] as const) {
      const embeddings = await engine.embed(input, { pooling });
      const distances = embeddings.map(
        (embedding, index) => 1 - cosine(embedding, Float32Array.from(own[index]![pooling])),
      );
      t.diagnostic(`${pooling}: 1 − cosine ${distances.map((each) => each.toExponential(1)).join(' ')}`);
      for (const distance of distances) assert.ok(distance <= distanceMax, `${distance}`);
      for (const embedding of embeddings) assert.ok(Math.abs(cosine(embedding, embedding) - 1) < 1e-6);
    }
    assert.ok((await beside).length > 0);
  });
}

test('as a library: cuts, misuse, abort, and logits beside a text', async (t) => {
  const engine = await Engine.open(join(packageRoot, golden.model), { maxSequences: 2 });
  t.after(() => engine.close());
  const [cut] = await engine.embed('Hello', { dimensions: 8 });
  assert.equal(cut?.length, 8);
  assert.deepEqual(await engine.embed([]), []);
  await assert.rejects(engine.embed('Hello', { dimensions: 100_000 }), { code: 'REQUEST_INVALID' });
  await assert.rejects(engine.embed(7 as unknown as string), { code: 'REQUEST_INVALID' });
  const gone = new Error('gone');
  await assert.rejects(engine.embed('Hello', { signal: AbortSignal.abort(gone) }), gone);
  const { vocabularySize } = engine.model.client.description;
  const options = { maxTokens: 3, temperature: 0, ignoreEos: true };
  const prompt = engine.model.tokenizer.encode('The sea is');
  const returns = { contextLogits: true, generationLogits: true };
  let rows = 0;
  for await (const { outputs, tokens } of engine.generate(prompt, { ...options, returns })) {
    const context = outputRows(outputs, 'contextLogits');
    if (rows === 0) assert.deepEqual([context?.rows, context?.width], [prompt.length, vocabularySize]);
    assert.equal(outputRows(outputs, 'generationLogits')?.rows ?? 0, tokens.length);
    rows += tokens.length;
  }
  assert.equal(rows, 3);
});

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { Engine } from '../../src/engine.ts';
import type { ChatMessage } from '../../src/tokenizer/chat-template.ts';

/** The models that come with Nereid, through the whole stack: chat template, tokenizer, ggml, sampling, text. */
const cache = mkdtempSync(join(packageRoot, '.cache-embedded-test-'));
process.env.NEREID_CACHE = cache;
after(() => rmSync(cache, { recursive: true, force: true }));

interface Golden {
  prompts: {
    messages?: ChatMessage[];
    prompt: string;
    prompt_ids: number[];
    greedy_ids: number[];
    least_lead: number;
  }[];
}

/** Where the best token led by less than this (in logits), another number format may rightly choose otherwise. */
const leadMin = 0.5;

for (const name of ['nereid-16m', 'nereid-draft']) {
  test(`${name}: ids and greedy tokens equal transformers'`, async () => {
    const golden: Golden = JSON.parse(readFileSync(join(packageRoot, `models/${name}/golden.json`), 'utf8'));
    // A path works as well as a name; the draft is in no catalogue.
    const engine = await Engine.open(join(packageRoot, 'models', name), { maxSequences: 4 });
    after(() => engine.close());
    let compared = 0;
    for (const { prompt, prompt_ids, greedy_ids, least_lead } of golden.prompts) {
      const ids = engine.model.tokenizer.encode(prompt, { addSpecialTokens: false });
      assert.deepEqual([...ids], prompt_ids, JSON.stringify(prompt));
      if (least_lead < leadMin) continue;
      const made: number[] = [];
      const stream = engine.generate(ids, { temperature: 0, maxTokens: greedy_ids.length });
      for await (const { tokens } of stream) made.push(...tokens);
      // A delta holds the text's tokens: not the id that ended it.
      const text = greedy_ids.filter((id) => !engine.model.tokenizer.stopTokenIds.includes(id));
      assert.deepEqual(made, text, JSON.stringify(prompt));
      compared++;
    }
    assert.ok(compared >= 2, `only ${compared} golden texts have a clear lead`);
  });
}

interface EvalRow {
  kind: string;
  messages: ChatMessage[];
  expected: string;
}

/** Rows of each kind that are asked, and how many must be answered exactly: well under what the model card reports. */
const samples: Record<string, { rows: number; exactMin: number }> = {
  define: { rows: 120, exactMin: 0.8 },
  sum: { rows: 40, exactMin: 0.9 },
};

describe('nereid-16m on phrasings it was not trained on', () => {
  const rows: EvalRow[] = readFileSync(join(packageRoot, 'models/nereid-16m/eval.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

  for (const [kind, { rows: count, exactMin }] of Object.entries(samples)) {
    test(`${kind}: at least ${exactMin * 100} % exact`, async () => {
      const asked = rows.filter((row) => row.kind === kind).slice(0, count);
      assert.equal(asked.length, count);
      const engine = await Engine.open('nereid-16m');
      after(() => engine.close());
      const answers = await Promise.all(
        asked.map(({ messages }) => engine.chat(messages, { temperature: 0, maxTokens: 96 }).text()),
      );
      const exact = answers.filter((answer, index) => answer.trim() === asked[index]?.expected).length;
      assert.ok(exact / count >= exactMin, `${exact} of ${count}`);
    });
  }
});

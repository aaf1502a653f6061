import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { packageRoot } from './base/entry.ts';
import { Engine } from './engine.ts';

const cache = mkdtempSync(join(packageRoot, '.cache-engine-test-'));
process.env.NEREID_CACHE = cache;
after(() => rmSync(cache, { recursive: true, force: true }));

const question = [{ role: 'user', content: 'What is a lighthouse?' }];
const small = { maxSequences: 4, contextLength: 256 };

for (const isolation of ['process', 'none'] as const) {
  describe(`the library with isolation '${isolation}'`, () => {
    let engine: Engine;
    after(() => engine?.close());

    test('streams an answer, and counts it', async () => {
      engine = await Engine.open('nereid-16m', { isolation, ...small });
      const stream = engine.chat(question, { temperature: 0 });
      let text = '';
      for await (const delta of stream) text += delta.text;
      assert.match(text, /^lighthouse \(noun\): a tower/);
      assert.equal(stream.usage?.completionTokens, 26);
    });

    test('several requests share the engine; sequences of one say whose they are', async () => {
      const [river, both] = await Promise.all([
        engine.chat([{ role: 'user', content: 'What is a river?' }], { temperature: 0 }).text(),
        (async () => {
          const texts = ['', ''];
          for await (const { sequence, text } of engine.chat(question, { temperature: 0, sequences: 2 })) {
            texts[sequence] += text;
          }
          return texts;
        })(),
      ]);
      assert.match(river, /^river \(noun\)/);
      assert.match(both[0] ?? '', /tower/);
      assert.equal(both[0], both[1]);
    });

    test('a seed makes a sampled answer reproducible; stop strings end it', async () => {
      const sampled = { temperature: 1.5, seed: 7, maxTokens: 20 };
      assert.equal(await engine.chat(question, sampled).text(), await engine.chat(question, sampled).text());
      assert.equal(await engine.chat(question, { temperature: 0, stop: [' (noun)'] }).text(), 'lighthouse');
    });

    test('guessing ahead changes no text, and a request may go without', async (t) => {
      const speculation = { method: 'ngram', draftsMax: 4, lookup: { max: 3, min: 1 } } as const;
      const guessing = await Engine.open('nereid-16m', { isolation, ...small, speculation });
      t.after(() => guessing.close());
      const options = { temperature: 0, maxTokens: 24 } as const;
      const text = await engine.chat(question, options).text();
      const answer = guessing.chat(question, { ...options, prediction: text });
      assert.equal(await answer.text(), text);
      assert.ok((answer.usage?.drafts?.accepted ?? 0) > 0);
      const none = guessing.chat(question, { ...options, speculation: { draftsMax: 0 } });
      assert.equal(await none.text(), text);
      assert.equal(none.usage?.drafts, undefined);
    });

    test('leaving the loop and aborting both cancel', async () => {
      for await (const _ of engine.generate('Once upon a time', { temperature: 0 })) break;
      const abort = new AbortController();
      const aborted = engine.generate('Once upon a time', { temperature: 0, signal: abort.signal }).text();
      abort.abort(new Error('enough'));
      await assert.rejects(aborted, /enough/);
      assert.match(await engine.chat(question, { temperature: 0 }).text(), /tower/);
    });

    test('mistakes are errors with a code', () => {
      assert.throws(() => engine.generate('', {}), { code: 'REQUEST_INVALID' });
      assert.throws(() => engine.generate('x', { temperature: Number.NaN }), /temperature/);
      assert.throws(() => engine.generate('x', { maxTokens: -5 }), /maxTokens/);
      for (const wrong of [5, { prompt: 5 }, null, ['x']]) {
        assert.throws(() => engine.generate(wrong as never), {
          code: 'REQUEST_INVALID',
          message: /the prompt is/,
        });
      }
      assert.throws(() => engine.generate('x', 'y' as never), {
        code: 'REQUEST_INVALID',
        message: /options/,
      });
      assert.throws(() => engine.generate('x', { stop: 'y' as never }), {
        code: 'REQUEST_INVALID',
        message: /stop/,
      });
      assert.throws(() => engine.chat('Hi' as never), { code: 'REQUEST_INVALID', message: /messages/ });
    });

    test('one signal serves many generations, and means nothing to those that are through', async () => {
      const abort = new AbortController();
      const options = { temperature: 0, maxTokens: 2, topP: undefined, signal: abort.signal };
      const streams = Array.from({ length: 12 }, () => engine.chat(question, options));
      await Promise.all(streams.map((stream) => stream.text()));
      const last = engine.chat(question, options);
      while (last.usage === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
      abort.abort(new Error('too late'));
      assert.equal((await last.text()).length > 0, true);
    });
  });
}

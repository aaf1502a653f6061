import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { tinyByteLevel } from '../../test/support/tokenizers.ts';
import { BoundedTemplate } from './bounded-template.ts';
import { EncodePool } from './encode-pool.ts';
import type { TokenizerError } from './errors.ts';
import { tokenizerFilesFromGguf } from './gguf-to-files.ts';
import { JsonTokenizer, type TokenizerFiles } from './json-tokenizer.ts';
import { TemplatePool } from './template-pool.ts';

/** What a stranger may put into a model's folder, and the clients that come to it. */
const files = tokenizerFilesFromGguf(tinyByteLevel);

function withRegex(Regex: string): TokenizerFiles {
  const json = JSON.parse(files['tokenizer.json']);
  const split = { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false };
  json.pre_tokenizer = { type: 'Sequence', pretokenizers: [split, json.pre_tokenizer] };
  return { ...files, 'tokenizer.json': JSON.stringify(json) };
}

const codeOf = (thrown: unknown): string => (thrown as TokenizerError).code;

/** The longest time for which this thread's event loop stood still while the work was done. */
async function longestStandstill(work: () => Promise<unknown>): Promise<number> {
  let lastMs = performance.now();
  let longestMs = 0;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    longestMs = Math.max(longestMs, nowMs - lastMs);
    lastMs = nowMs;
  }, 5);
  await work();
  await new Promise((resolve) => setTimeout(resolve, 20));
  clearInterval(timer);
  return longestMs;
}

describe('a tokenizer from a stranger', () => {
  test('the field’s own rules are known; others run only where they can be stopped', () => {
    assert.equal(new JsonTokenizer(files).hasKnownRules, true);
    for (const known of ['\\p{N}', ' {2,}', '[\\r\\n]', '\\d{3}', '[0-9][0-9]', '\\s+']) {
      assert.equal(new JsonTokenizer(withRegex(known)).hasKnownRules, true, known);
    }
    for (const strange of ['(a+)+$|x', '(a|a)*b', 'a*a*a*b', '\\s+$x', 'x+y', '(?:a)']) {
      assert.equal(new JsonTokenizer(withRegex(strange)).hasKnownRules, false, strange);
    }
  });

  for (const regex of ['(a+)+$|x', '(a|a)*b']) {
    test(`${regex} on forty letters is given up, and the loop never stands still`, async () => {
      const pool = new EncodePool(new JsonTokenizer(withRegex(regex)), { timeoutBaseMs: 500 });
      const standstillMs = await longestStandstill(async () => {
        const thrown = await pool.encode(`${'a'.repeat(40)}!`).catch((error: unknown) => error);
        assert.equal(codeOf(thrown), 'ENCODE_TIMEOUT');
      });
      assert.ok(standstillMs < 5_000, `${standstillMs} ms`);
      assert.ok((await pool.encode('ab')).length > 0, 'harmless texts are encoded');
      await pool.close();
    });
  }

  test('a client that leaves takes its long text with it', async () => {
    const pool = new EncodePool(new JsonTokenizer(files), { workersMax: 1 });
    const leaving = new AbortController();
    const long = pool.encode('hello '.repeat(400_000), {}, leaving.signal).catch(codeOf);
    const waiting = pool.encode('hello '.repeat(400_000), {}, leaving.signal).catch(codeOf);
    const short = pool.encode('hello '.repeat(5_000));
    leaving.abort();
    assert.deepEqual([await long, await waiting], ['ENCODE_CANCELLED', 'ENCODE_CANCELLED']);
    assert.ok((await short).length > 0);
    await pool.close();
  });

  test('short texts pass long ones', async () => {
    const pool = new EncodePool(new JsonTokenizer(files));
    const order: string[] = [];
    const add = (name: string, length: number): Promise<unknown> =>
      pool.encode('hello '.repeat(length)).then(() => order.push(name));
    await Promise.all([add('long', 300_000), add('longer', 300_000), add('short', 4_000)]);
    assert.equal(order[0], 'short');
    await pool.close();
  });

  test('a word of millions of characters that its regex cannot take is refused, with the reason', async () => {
    const pool = new EncodePool(new JsonTokenizer(files));
    const thrown = await pool.encode('\u0301'.repeat(7_500_000)).then(
      () => 'TEXT_TOO_LONG',
      (error: unknown) => codeOf(error),
    );
    assert.equal(thrown, 'TEXT_TOO_LONG');
    await pool.close();
  });

  test('how much text a token can stand for is known for byte-level BPE, and not where text may vanish', () => {
    const { unitsPerTokenMax, vocabularySize } = new JsonTokenizer(files);
    assert.ok(unitsPerTokenMax !== undefined && unitsPerTokenMax > 1 && vocabularySize > 0);
    const json = JSON.parse(files['tokenizer.json']);
    json.normalizer = { type: 'Strip', strip_left: true, strip_right: true };
    const stripping = new JsonTokenizer({ ...files, 'tokenizer.json': JSON.stringify(json) });
    assert.equal(stripping.unitsPerTokenMax, undefined);
  });
});

describe('a chat template from a stranger', () => {
  const input = { messages: [{ role: 'user', content: 'x' }], addGenerationPrompt: true };

  test('an ordinary one gives the same text as here', async () => {
    const pool = new TemplatePool();
    const template = '{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}';
    assert.equal(await pool.render(template, { ...input, eosToken: '</s>' }), 'user: x</s>');
    const broken = await pool.render('{% for %}', input).catch(codeOf);
    assert.equal(broken, 'CHAT_TEMPLATE_INVALID');
    assert.equal(await pool.render(undefined, input).catch(codeOf), 'CHAT_TEMPLATE_MISSING');
    await pool.close();
  });

  test('one that doubles a string and takes it apart is given up; the loop never stands still, the next chat is served', async () => {
    const doubled =
      '{% set ns = namespace(s="ab") %}{% for i in range(23) %}{% set ns.s = ns.s + ns.s %}{% endfor %}';
    const hostile = `${doubled}{% for p in ns.s.split("a") %}{% for q in ns.s.split("b") %}{{ q }}{% endfor %}{% endfor %}`;
    const pool = new TemplatePool(1_000);
    const standstillMs = await longestStandstill(async () => {
      assert.equal(await pool.render(hostile, input).catch(codeOf), 'CHAT_TEMPLATE_REJECTED');
    });
    assert.ok(standstillMs < 5_000, `${standstillMs} ms`);
    assert.equal(await pool.render('{{ messages[0].content }}', input), 'x');
    await pool.close();
  });

  test('in one thread its steps and its time are bounded too', () => {
    const endless = '{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}';
    assert.throws(() => new BoundedTemplate(endless).render({}), /it took more than|it made a value/);
  });
});

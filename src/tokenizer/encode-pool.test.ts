import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { tinyByteLevel } from '../../test/support/tokenizers.ts';
import { EncodePool } from './encode-pool.ts';
import { TokenizerError } from './errors.ts';
import { tokenizerFilesFromGguf } from './gguf-to-files.ts';
import { JsonTokenizer } from './json-tokenizer.ts';

const tokenizer = new JsonTokenizer(tokenizerFilesFromGguf(tinyByteLevel));
const long = 'hello world 🦜 <|im_end|>'.repeat(4000);

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof TokenizerError);
  return error.code;
}

test('workers give the ids that the tokenizer gives, for any options', async () => {
  const pool = new EncodePool(tokenizer, { workersMax: 2 });
  try {
    const all = [undefined, { addSpecialTokens: false }, { parseSpecialTokens: false }];
    const encoded = await Promise.all([...all, ...all].map((options) => pool.encode(long, options)));
    for (const [i, ids] of encoded.entries())
      assert.deepEqual(ids, tokenizer.encode(long, all[i % all.length]));
    assert.deepEqual(await pool.encode('hello'), tokenizer.encode('hello'));
  } finally {
    await pool.close();
  }
});

test('the queue has limits; what is refused is refused at once and the rest is done', async () => {
  const pool = new EncodePool(tokenizer, { workersMax: 1, queueLengthMax: 2, inlineTextLengthMax: 10 });
  try {
    const wanted = Array.from({ length: 5 }, () => pool.encode(long));
    assert.equal(await codeOf(wanted[4]!), 'ENCODE_QUEUE_FULL');
    assert.equal(await codeOf(wanted[3]!), 'ENCODE_QUEUE_FULL');
    for (const done of await Promise.all(wanted.slice(0, 3))) assert.deepEqual(done, tokenizer.encode(long));
  } finally {
    await pool.close();
  }
});

test("the tokenizer's own refusals come through, and a closed pool refuses", async () => {
  const pool = new EncodePool(tokenizer);
  assert.equal(await codeOf(pool.encode('x'.repeat(16 * 1024 * 1024 + 1))), 'TEXT_TOO_LONG');
  const waiting = pool.encode(long);
  const closing = pool.close();
  assert.equal(await codeOf(waiting), 'ENCODE_WORKER_FAILED');
  await closing;
  assert.equal(await codeOf(pool.encode(long)), 'ENCODE_WORKER_FAILED');
});

test('a text that comes while an idle worker ends gets a new worker', async () => {
  const pool = new EncodePool(tokenizer, { idleWorkerMs: 1 });
  try {
    for (let round = 0; round < 4; round++) {
      assert.deepEqual(await pool.encode(long), tokenizer.encode(long));
      // Set after the worker's own timer of the same length, so it fires after that: the worker is told to end, but has not yet.
      await sleep(1);
    }
  } finally {
    await pool.close();
  }
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bytesOf, byteTokenizer, endOfTextId } from '../../test/openai/byte-tokenizer.ts';
import type { FinishReason, SequenceEvent, TokenLogprobs } from '../runtime/requests/events.ts';
import { SequenceText, type SequenceTextOptions } from './sequence-text.ts';

const tokenizer = byteTokenizer();

function sequence(options: Partial<SequenceTextOptions> = {}): SequenceText {
  return new SequenceText(0, {
    tokenizer,
    stopStrings: [],
    requestStopTokenIds: [],
    minTokens: 0,
    includeStopString: false,
    skipSpecialTokens: true,
    ...options,
  });
}

function event(tokens: number[], finish?: FinishReason, logprobs?: TokenLogprobs[]): SequenceEvent {
  return { requestId: 1, sequence: 0, tokens, finish, logprobs };
}

const logprob = (value: number): TokenLogprobs => ({
  logprob: value,
  top: { tokens: Int32Array.of(), logprobs: Float32Array.of() },
});

test('several tokens of one step are one delta', () => {
  const delta = sequence().accept(event(bytesOf('abc')));
  assert.deepEqual([delta.text, delta.tokens.length, delta.finish], ['abc', 3, undefined]);
});

test('a stop string in the middle of a step cuts its tokens and log-probabilities', () => {
  const text = sequence({ stopStrings: ['XY'] });
  assert.equal(text.accept(event(bytesOf('aX'))).text, 'a');
  const delta = text.accept(event(bytesOf('Yzz'), undefined, [logprob(-1), logprob(-2), logprob(-3)]));
  assert.deepEqual([delta.text, delta.finish, delta.stopReason], ['', 'stop', 'XY']);
  assert.deepEqual(delta.tokens, bytesOf('Y'));
  assert.deepEqual(
    delta.logprobs?.map((entry) => entry.logprob),
    [-1],
  );
  assert.equal(text.tokenCount, 3);
  assert.equal(text.finished, true);
});

test('what may begin a stop string is held back, and given out at the end', () => {
  const text = sequence({ stopStrings: ['XYZ'] });
  assert.equal(text.accept(event(bytesOf('abXY'))).text, 'ab');
  const last = text.accept(event(bytesOf('!X'), 'length'));
  assert.deepEqual([last.text, last.finish, last.stopReason], ['XY!X', 'length', undefined]);
});

test('a character that never completes ends as U+FFFD', () => {
  const text = sequence();
  const [first, second] = bytesOf('é') as [number, number];
  assert.equal(text.accept(event([first])).text, '');
  assert.equal(text.accept(event([second])).text, 'é');
  assert.equal(text.accept(event([first], 'length')).text, '\ufffd');
});

test('the end-of-text id counts, makes no text and is no stop reason; a requested id is', () => {
  const text = sequence();
  const last = text.accept(event([...bytesOf('ok'), endOfTextId], 'stop'));
  assert.deepEqual([last.text, last.finish, last.stopReason, text.tokenCount], ['ok', 'stop', undefined, 3]);
  assert.deepEqual(last.tokens, bytesOf('ok'));
  const requested = sequence({ requestStopTokenIds: [65] }).accept(event([66, 65], 'stop'));
  assert.deepEqual([requested.text, requested.stopReason], ['B', 65]);
});

test('an id of the padding behind the vocabulary has no text', () => {
  const delta = sequence().accept(event([65, tokenizer.vocabularySize, 66]));
  assert.deepEqual([delta.text, delta.tokens.length], ['AB', 3]);
});

test('however the tokens are cut into steps, the text is the same', () => {
  const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'é'), minLength: 1, maxLength: 3 }), {
    maxLength: 3,
  });
  const words = fc.string({ unit: fc.constantFrom('a', 'b', 'é', '€'), maxLength: 30 });
  const cuts = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1 });
  const run = (tokens: number[], stopStrings: string[], sizes: number[]): [string, number, unknown] => {
    const text = sequence({ stopStrings });
    let all = '';
    let stopReason: unknown;
    for (let at = 0, i = 0; at < tokens.length && !text.finished; i++) {
      const size = sizes[i % sizes.length]!;
      const isLast = at + size >= tokens.length;
      const delta = text.accept(event(tokens.slice(at, at + size), isLast ? 'length' : undefined));
      all += delta.text;
      stopReason = delta.stopReason;
      at += size;
    }
    return [all, text.tokenCount, stopReason];
  };
  fc.assert(
    fc.property(words, stops, cuts, (word, stopStrings, sizes) => {
      const tokens = bytesOf(word);
      assert.deepEqual(run(tokens, stopStrings, sizes), run(tokens, stopStrings, [1]));
    }),
    { numRuns: 500 },
  );
});

test('a stop string that begins within min_tokens and ends after them stops; one that ends within does not', () => {
  const run = (words: string, stopStrings: string[], minTokens: number): [string, unknown] => {
    const text = sequence({ stopStrings, minTokens });
    let all = '';
    for (const token of bytesOf(words)) {
      const delta = text.accept(event([token]));
      all += delta.text;
      if (text.finished) return [all, delta.stopReason];
    }
    return [all + text.accept(event([], 'length')).text, undefined];
  };
  assert.deepEqual(run('abcEND tail', ['END'], 4), ['abc', 'END']);
  assert.deepEqual(run('abcEND tail', ['END'], 5), ['abc', 'END']);
  assert.deepEqual(run('abcEND tail', ['END'], 6), ['abcEND tail', undefined]);
  assert.deepEqual(run('ENDENDEN', ['END'], 3), ['END', 'END']);
  assert.deepEqual(run('XABC', ['AB', 'XABC'], 3), ['', 'XABC']);
  assert.deepEqual(run('XABD', ['AB', 'XABC'], 3), ['XABD', undefined]);
  assert.deepEqual(run('aaaa', ['aa'], 2), ['a', 'aa']);
});

test('with min_tokens the first stop string that ends after them is found, whichever way the steps are cut', () => {
  const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 4 }), {
    minLength: 1,
    maxLength: 3,
  });
  const words = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 20 });
  fc.assert(
    fc.property(
      words,
      stops,
      fc.integer({ min: 0, max: 12 }),
      fc.integer({ min: 1, max: 4 }),
      (word, stopStrings, minTokens, size) => {
        const text = sequence({ stopStrings, minTokens });
        let all = '';
        for (let at = 0; at < word.length && !text.finished; at += size) {
          const finish = at + size >= word.length ? 'length' : undefined;
          all += text.accept(event(bytesOf(word.slice(at, at + size)), finish)).text;
        }
        assert.equal(all, cutAtStop(word, stopStrings, minTokens));
      },
    ),
    { numRuns: 500 },
  );
});

/** The plain definition: the earliest end behind `minTokens` characters, of those the longest string. */
function cutAtStop(word: string, stops: readonly string[], minTokens: number): string {
  for (let end = minTokens + 1; end <= word.length; end++) {
    const found = stops.filter((stop) => word.slice(0, end).endsWith(stop)).map((stop) => stop.length);
    if (found.length > 0) return word.slice(0, end - Math.max(...found));
  }
  return word;
}

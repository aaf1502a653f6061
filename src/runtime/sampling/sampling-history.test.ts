import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { type GenerationRequest, greedySampling, type SamplingParameters } from '../requests/request.ts';
import { compileSampling } from './row-sampling.ts';
import { SamplingHistory } from './sampling-history.ts';

function historyOf(sampling: Partial<SamplingParameters>, prompt: number[] = []): SamplingHistory {
  const promptTokens = Int32Array.from(prompt);
  const request: GenerationRequest = {
    id: 0,
    promptTokens,
    sampling: { ...greedySampling, temperature: 1, ...sampling },
    maxTokens: 10,
    minTokens: 0,
    stopTokenIds: [],
    sequences: 1,
    priority: 0,
  };
  return new SamplingHistory(compileSampling(request), promptTokens);
}

function bannedBy(history: SamplingHistory): number[] {
  const banned = new Set<number>();
  history.forEachBanned((token) => banned.add(token));
  return [...banned].sort((left, right) => left - right);
}

/** The same by looking at everything. */
function bannedByLooking(
  prompt: number[],
  output: number[],
  words: number[][],
  size: number,
  vocabulary: number,
): number[] {
  const key = (tokens: number[]): string => tokens.map((token) => ` ${token} `).join('');
  const said = [...prompt, ...output];
  return Array.from({ length: vocabulary }, (_, token) => token).filter((token) => {
    const completes = words.some((word) => key([...output, token]).endsWith(key(word)));
    if (completes || size === 0) return completes;
    const ngram = [...said, token].slice(-size);
    return ngram.length === size && key(said).includes(key(ngram));
  });
}

test('bans are those that a look at the whole text finds, at every token', () => {
  const random = new SeededRandom(21);
  for (let round = 0; round < 60; round++) {
    const vocabulary = 2 + random.integer(6);
    const some = (count: number): number[] => Array.from({ length: count }, () => random.integer(vocabulary));
    const prompt = some(random.integer(12));
    const words = Array.from({ length: random.integer(5) }, () => some(1 + random.integer(4)));
    const noRepeatNgramSize = random.integer(5);
    const history = historyOf({ badWords: words, noRepeatNgramSize }, prompt);
    const output: number[] = [];
    for (let step = 0; step < 30; step++) {
      const expected = bannedByLooking(prompt, output, words, noRepeatNgramSize, vocabulary);
      assert.deepEqual(bannedBy(history), expected, `round ${round} step ${step}`);
      const token = random.integer(vocabulary);
      output.push(token);
      history.add(token);
    }
  }
});

test('ids over 16 bits are not mistaken for others', () => {
  const history = historyOf({ noRepeatNgramSize: 2 }, [65_536, 7, 1, 0, 9, 0]);
  assert.deepEqual(bannedBy(history), [9]);
});

test('a bad word is one of the output: what the prompt ends in does not count', () => {
  const history = historyOf({ badWords: [[5, 6]] }, [5]);
  assert.deepEqual(bannedBy(history), []);
  history.add(5);
  assert.deepEqual(bannedBy(history), [6]);
});

test('top-p decays to its least and is reset', () => {
  const history = historyOf({ topP: 0.8, topPDecay: { factor: 0.5, min: 0.3, resetToken: 9 } });
  const seen = [history.topP];
  for (const token of [1, 2, 9, 1]) {
    history.add(token);
    seen.push(history.topP);
  }
  assert.deepEqual(seen, [0.8, 0.4, 0.3, 0.8, 0.4]);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom, uniform } from '../../base/random.ts';
import { type GenerationRequest, greedySampling, type SamplingParameters } from '../requests/request.ts';
import { TokenCounts } from '../sequences/token-counts.ts';
import { expNegativeSteps, stepMax, stepsPerUnit } from './exponential.ts';
import type { LogitRow } from './logit-row.ts';
import { tokenLogprobs } from './logprobs.ts';
import { compileSampling } from './row-sampling.ts';
import { Sampler } from './sampler.ts';
import { SamplingHistory } from './sampling-history.ts';

function dense(logits: number[]): LogitRow {
  return { logits: Float32Array.from(logits), start: 0, width: logits.length };
}

interface Setting extends Partial<SamplingParameters> {
  minTokens?: number;
  stopTokenIds?: number[];
}

function compile({ minTokens = 0, stopTokenIds = [], ...sampling }: Setting) {
  const request: GenerationRequest = {
    id: 0,
    promptTokens: Int32Array.of(0),
    sampling: { ...greedySampling, ...sampling },
    maxTokens: 10,
    minTokens,
    stopTokenIds,
    sequences: 1,
    priority: 0,
  };
  return compileSampling(request);
}

function choose(
  row: LogitRow,
  setting: Setting,
  draw = 0,
  prompt: number[] = [],
  output: number[] = [],
): number {
  const sampling = compile(setting);
  const context = {
    sampling,
    generated: output.length,
    position: prompt.length + output.length,
    counts: new TokenCounts(Int32Array.from(prompt)),
    history: new SamplingHistory(sampling, Int32Array.from(prompt)),
    uniform: draw,
  };
  for (const token of output) {
    context.counts.add(token);
    context.history.add(token);
  }
  return new Sampler(16).sample(row, context);
}

/** The exact distribution by plain sorting: temperature, min-p, top-k, top-p in vLLM's order. */
function exactProbabilities(logits: number[], setting: Setting): number[] {
  const { temperature = 1, topK = 0, topP = 1, minP = 0 } = setting;
  const softmax = (values: number[]): number[] => {
    const max = Math.max(...values);
    const weights = values.map((value) => Math.exp(value - max));
    const sum = weights.reduce((a, b) => a + b);
    return weights.map((weight) => weight / sum);
  };
  let values = logits.map((logit) => logit / temperature);
  const probabilities = softmax(values);
  const max = Math.max(...probabilities);
  values = values.map((value, i) => (probabilities[i]! < minP * max ? Number.NEGATIVE_INFINITY : value));
  if (topK > 0) {
    const cut = [...values].sort((a, b) => b - a)[Math.min(topK, values.length) - 1]!;
    values = values.map((value) => (value < cut ? Number.NEGATIVE_INFINITY : value));
  }
  const left = softmax(values);
  const order = left.map((_, i) => i).sort((a, b) => left[b]! - left[a]! || a - b);
  let sum = 0;
  for (const i of order) {
    if (sum >= topP) values[i] = Number.NEGATIVE_INFINITY;
    sum += left[i]!;
  }
  return softmax(values);
}

test('the fast exponential is exact to 3e-9', () => {
  for (let steps = 0; steps < stepMax; steps += 0.317) {
    const exact = Math.exp(-steps / 64);
    assert.ok(Math.abs(expNegativeSteps(steps) - exact) <= 3e-9 * exact, `at ${steps}`);
  }
  assert.equal(expNegativeSteps(stepMax), 0);
  // histogram.ts has them as literals.
  assert.deepEqual([stepMax, stepsPerUnit], [2048, 64]);
});

const logits = [2, 1, 0.5, -1, 3, 3, -4, 0, 1.5, 2.5];
const settings: Setting[] = [
  { temperature: 1 },
  { temperature: 0.3 },
  { temperature: 2.5 },
  { temperature: 1, topK: 3 },
  { temperature: 1, topK: 1 },
  { temperature: 1, topP: 0.5 },
  { temperature: 1, topP: 0.01 },
  { temperature: 1, topP: 0.95, topK: 5 },
  { temperature: 1.5, minP: 0.2 },
  { temperature: 1.5, minP: 0.1, topP: 0.8, topK: 6 },
];

for (const setting of settings) {
  test(`draws follow the exact distribution: ${JSON.stringify(setting)}`, () => {
    const expected = exactProbabilities(logits, setting);
    const sampler = new Sampler(logits.length);
    const row = dense(logits);
    const sampling = compile(setting);
    const counts = new Array<number>(logits.length).fill(0);
    const draws = 20_000;
    const seed = 11;
    for (let i = 0; i < draws; i++) {
      const context = {
        sampling,
        generated: 0,
        position: 1,
        counts: undefined,
        uniform: uniform(seed, 0, i),
      };
      const token = sampler.sample(row, context);
      counts[token]!++;
    }
    let chiSquare = 0;
    for (const [token, probability] of expected.entries()) {
      if (probability === 0) assert.equal(counts[token], 0, `token ${token} is cut (seed ${seed})`);
      else chiSquare += (counts[token]! - draws * probability) ** 2 / (draws * probability);
    }
    // 9 degrees of freedom at most: 27.9 is the 0.1 % point.
    assert.ok(chiSquare < 27.9, `chi-square ${chiSquare} (seed ${seed})`);
  });
}

test('a row longer than the histogram follows the exact distribution too, with no cut and with top-p', () => {
  const size = 5000;
  const random = new SeededRandom(9);
  const values = Array.from({ length: size }, (_, id) =>
    Math.fround(id % 500 === 0 ? 6 + random.next() : random.next()),
  );
  for (const setting of [{ temperature: 1 }, { temperature: 1, topP: 0.6 }] as Setting[]) {
    const expected = exactProbabilities(values, setting);
    const sampler = new Sampler(size);
    const sampling = compile(setting);
    const draws = 8000;
    const large = new Map<number, number>();
    let others = 0;
    for (let i = 0; i < draws; i++) {
      const context = { sampling, generated: 0, position: 1, counts: undefined, uniform: uniform(31, 0, i) };
      const token = sampler.sample(dense(values), context);
      assert.ok(expected[token]! > 0, 'a token that was cut is never drawn');
      if (token % 500 === 0) large.set(token, (large.get(token) ?? 0) + 1);
      else others++;
    }
    let rest = 1;
    let chiSquare = 0;
    for (let id = 0; id < size; id += 500) {
      const probability = expected[id]!;
      rest -= probability;
      chiSquare += ((large.get(id) ?? 0) - draws * probability) ** 2 / (draws * probability);
    }
    chiSquare += (others - draws * rest) ** 2 / (draws * rest);
    // 10 degrees of freedom: 29.6 is the 0.1 % point.
    assert.ok(chiSquare < 29.6, `chi-square ${chiSquare} (seed 31)`);
  }
});

test('cuts equal those of a full sort, on large random rows with ties', () => {
  const seed = 5;
  const random = new SeededRandom(seed);
  const size = 3000;
  const sampler = new Sampler(size);
  for (let round = 0; round < 60; round++) {
    // Few distinct values make ties; a wide spread makes far tails.
    const spread = [1, 8, 40][round % 3]!;
    const values = Array.from(
      { length: size },
      () => Math.fround(Math.round(random.next() * 400) / 400) * spread,
    );
    const setting: Setting = {
      temperature: 0.5 + random.next(),
      topK: random.integer(2) ? random.integer(200) : 0,
      topP: random.integer(2) ? 0.1 + random.next() * 0.9 : 1,
      minP: random.integer(3) === 0 ? random.next() * 0.3 : 0,
    };
    // Without any cut tokens do not lie in order of ids.
    if (!setting.topK && !setting.minP && setting.topP === 1) setting.topP = 0.999;
    const expected = exactProbabilities(values, setting);
    const row = dense(values);
    const sampling = compile(setting);
    let cumulative = 0;
    for (const [token, probability] of expected.entries()) {
      // In the middle of each token's share of [0, 1), the draw is that token, since shares lie in order of ids.
      const draw = cumulative + probability / 2;
      cumulative += probability;
      if (probability < 1e-6) continue;
      const context = { sampling, generated: 0, position: 1, counts: undefined, uniform: draw };
      assert.equal(
        sampler.sample(row, context),
        token,
        `seed ${seed} round ${round} ${JSON.stringify(setting)}`,
      );
    }
  }
});

test('greedy takes the first of the largest', () => {
  assert.equal(choose(dense([1, 5, 5, 2]), {}), 1);
  assert.equal(choose(dense([1, Number.NaN, 5, 2]), {}), 2);
  assert.equal(choose(dense([1, 2]), { temperature: 1e-6 }), 1);
});

test('penalties equal the hand-computed ones', () => {
  const row = dense([2, -1, 3, 0.5]);
  const seen = (setting: Setting) => {
    // Reads the adjusted logits back through forced ties: top log-probabilities of a one-hot bias would hide rounding.
    const probabilities: number[] = [];
    for (let token = 0; token < 4; token++) {
      let low = -50;
      let high = 50;
      for (let i = 0; i < 60; i++) {
        const middle = (low + high) / 2;
        const probe = { logits: Float32Array.of(...row.logits, middle), start: 0, width: 5 };
        for (let other = 0; other < 4; other++) if (other !== token) probe.logits[other] = -1e9;
        if (choose(probe, setting, 0, [0, 1, 2], [2, 2, 1]) === 4) high = middle;
        else low = middle;
      }
      probabilities.push(Math.round(high * 1e4) / 1e4);
    }
    return probabilities;
  };
  assert.deepEqual(seen({}), [2, -1, 3, 0.5]);
  // Prompt and output hold 0, 1 and 2.
  assert.deepEqual(seen({ repetitionPenalty: 2 }), [1, -2, 1.5, 0.5]);
  // The output holds 2 twice and 1 once.
  assert.deepEqual(seen({ presencePenalty: 0.5 }), [2, -1.5, 2.5, 0.5]);
  assert.deepEqual(seen({ frequencyPenalty: 0.5 }), [2, -1.5, 2, 0.5]);
  assert.deepEqual(
    seen({ repetitionPenalty: 2, presencePenalty: 0.25, frequencyPenalty: 0.5 }),
    [1, -2.75, 0.25, 0.5],
  );
});

test('bias bans and forces; stop ids are banned until minTokens', () => {
  assert.equal(choose(dense([1, 5, 2]), { logitBias: [[1, -100]] }), 2);
  assert.equal(choose(dense([1, 5, 2]), { logitBias: [[0, 100]] }), 0);
  const stops = { minTokens: 2, stopTokenIds: [1] };
  assert.equal(choose(dense([1, 5, 2]), stops, 0, [0], [2]), 2);
  assert.equal(choose(dense([1, 5, 2]), stops, 0, [0], [2, 2]), 1);
});

test('only what is allowed is chosen; bad words, n-grams and a bias over the vocabulary ban', () => {
  const row = dense([1, 5, 2, 7]);
  assert.equal(choose(row, { allowedTokens: Int32Array.of(0, 2) }), 2);
  assert.equal(choose(row, { badWords: [[3], [0, 1]] }, 0, [0], [2]), 1);
  assert.equal(choose(row, { badWords: [[3], [0, 1]] }, 0, [2], [0]), 2);
  assert.equal(choose(row, { noRepeatNgramSize: 2 }, 0, [0, 3, 2], [0]), 1);
  assert.equal(choose(row, { embeddingBias: Float32Array.of(0, 0, 4, Number.NEGATIVE_INFINITY) }), 2);
  // A bias does not bring back what is banned.
  const all = { allowedTokens: Int32Array.of(0, 2), badWords: [[2]], logitBias: [[2, 100] as const] };
  assert.equal(choose(row, all), 0);
  assert.deepEqual([...row.logits], [1, 5, 2, 7]);
  assert.throws(() => choose(row, { allowedTokens: Int32Array.of(1), badWords: [[1]] }), {
    code: 'LOGITS_INVALID',
  });
});

test('a top-p that has decayed cuts more', () => {
  const row = dense([2, 1.9, 1.8, 1.7]);
  const setting = { temperature: 1, topP: 0.9, topPDecay: { factor: 0.1, min: 0.05 } };
  assert.equal(choose(row, setting, 0.99), 3);
  assert.equal(choose(row, setting, 0.99, [], [1]), 0);
});

test('a row is as it was after sampling', () => {
  const row = dense([1, 5, 2, 7]);
  const setting = { temperature: 1, logitBias: [[1, 3] as const, [1, 4] as const], repetitionPenalty: 1.3 };
  choose(row, { ...setting, minTokens: 9, stopTokenIds: [0, 1] }, 0.5, [1, 2], [2, 3]);
  assert.deepEqual([...row.logits], [1, 5, 2, 7]);
});

test('a row without a possible token fails, whatever made it so', () => {
  const inf = Number.POSITIVE_INFINITY;
  for (const bad of [
    [Number.NaN, Number.NaN],
    [-inf, -inf],
    [1, inf],
  ]) {
    assert.throws(() => choose(dense(bad), {}), { code: 'LOGITS_INVALID' });
    assert.throws(() => choose(dense(bad), { temperature: 1 }), { code: 'LOGITS_INVALID' });
  }
  assert.throws(() => choose(dense([1, 2]), { minTokens: 1, stopTokenIds: [0, 1] }), {
    code: 'LOGITS_INVALID',
  });
});

test('log-probabilities are those of the softmax, likeliest first', () => {
  const row = dense([1, 3, 2, 3]);
  const sum = Math.log(Math.exp(1) + 2 * Math.exp(3) + Math.exp(2));
  const { logprob, top } = tokenLogprobs(row, 2, 3);
  assert.ok(Math.abs(logprob - (2 - sum)) < 1e-8);
  assert.deepEqual([...top.tokens], [1, 3, 2]);
  assert.ok(Math.abs(top.logprobs[0]! - (3 - sum)) < 1e-6);
  assert.equal(tokenLogprobs(row, 0, 0).top.tokens.length, 0);
  assert.equal(tokenLogprobs(row, 0, 20).top.tokens.length, 4);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom, uniform } from '../../base/random.ts';
import { probabilityBlock } from '../../device/step.ts';
import { type GenerationRequest, greedySampling, type SamplingParameters } from '../requests/request.ts';
import type { LogitRow } from './logit-row.ts';
import type { ProbabilityRow } from './probability-row.ts';
import { compileSampling, type RowSampling } from './row-sampling.ts';
import { Sampler } from './sampler.ts';

function compile(sampling: Partial<SamplingParameters>): RowSampling {
  const request: GenerationRequest = {
    id: 0,
    promptTokens: Int32Array.of(0),
    sampling: { ...greedySampling, ...sampling },
    maxTokens: 10,
    minTokens: 0,
    stopTokenIds: [],
    sequences: 1,
    priority: 0,
  };
  return compileSampling(request);
}

/** A row behind another one, and its probabilities in float32 as a device makes them. */
function rowsOf(logits: readonly number[], temperature: number): [LogitRow, ProbabilityRow] {
  const width = logits.length;
  const blocks = Math.floor(width / probabilityBlock);
  const inverse = Math.fround(1 / Math.fround(temperature));
  const scaled = Float32Array.from(logits, (logit) => Math.fround(logit) * inverse);
  const max = scaled.reduce((a, b) => Math.max(a, b));
  const total = scaled.reduce((sum, value) => sum + Math.exp(value - max), 0);
  const values = new Float32Array(2 * width);
  const blockSums = new Float32Array(2 * blocks).fill(9);
  for (let i = 0; i < width; i++) values[width + i] = Math.exp((scaled[i] as number) - max) / total;
  for (let block = 0; block < blocks; block++) {
    const from = width + block * probabilityBlock;
    blockSums[blocks + block] = values.subarray(from, from + probabilityBlock).reduce((a, b) => a + b, 0);
  }
  const row = { logits: Float32Array.from([...logits, ...logits]), start: width, width };
  return [row, { values, start: width, width, blockSums, blockStart: blocks }];
}

function randomCuts(random: SeededRandom): Partial<SamplingParameters> {
  return {
    topK: random.integer(3) === 0 ? 1 + random.integer(300) : 0,
    topP: random.integer(3) === 0 ? 1 : 0.05 + random.next() * 0.95,
    minP: random.integer(4) === 0 ? random.next() * 0.3 : 0,
  };
}

test('the token from probabilities is the one from logits, but within 1e-5 of a boundary', () => {
  const seed = 41;
  const random = new SeededRandom(seed);
  for (let round = 0; round < 400; round++) {
    // Shorter and longer than the histogram, with and without a rest behind the last whole block.
    const size = [40, 640, 2100, 5000][round % 4] as number;
    const spread = [0.5, 4, 12][round % 3] as number;
    const logits = Array.from({ length: size }, () => (random.next() + random.next() - 1) * spread);
    for (let i = 0; i < random.integer(30); i++) logits[random.integer(size)] = 4 + random.next() * 14;
    const temperature = 0.1 + random.next() * 2;
    const sampling = compile({ temperature, ...randomCuts(random) });
    const [row, probabilities] = rowsOf(logits, temperature);
    const sampler = new Sampler(size);
    const at = (draw: number, own?: ProbabilityRow) =>
      sampler.sample(row, {
        sampling,
        generated: 0,
        position: 1,
        counts: undefined,
        probabilities: own,
        uniform: Math.min(1 - 2 ** -53, Math.max(0, draw)),
      });
    for (let i = 0; i < 8; i++) {
      const draw = random.next();
      const token = at(draw, probabilities);
      const near = [draw, draw - 1e-5, draw + 1e-5].map((other) => at(other));
      const what = `seed ${seed} round ${round} draw ${draw} ${JSON.stringify(sampling.parameters)}`;
      assert.ok(near.includes(token), `${what}: ${token}, not one of ${near}`);
    }
  }
});

const likely = [2, 1, 0.5, -1, 3, 3, -4, 0, 1.5, 2.5];
for (const parameters of [{}, { topP: 0.6 }, { topK: 4 }, { minP: 0.2 }]) {
  test(`draws from probabilities follow the exact distribution: ${JSON.stringify(parameters)}`, () => {
    const size = 3000;
    const temperature = 0.8;
    const logits = new Array<number>(size).fill(-60);
    for (const [i, logit] of likely.entries()) logits[i * 299 + 5] = logit;
    const sampling = compile({ temperature, ...parameters });
    const [row, probabilities] = rowsOf(logits, temperature);
    const weights = likely.map((logit) => Math.exp((logit - 3) / temperature));
    const kept = keptWeights(weights, parameters);
    const sum = kept.reduce((a, b) => a + b, 0);
    const sampler = new Sampler(size);
    const counts = new Map<number, number>();
    const draws = 20_000;
    for (let i = 0; i < draws; i++) {
      const context = { sampling, generated: 0, position: 1, counts: undefined, probabilities };
      const token = sampler.sample(row, { ...context, uniform: uniform(7, 0, i) });
      counts.set(token, (counts.get(token) ?? 0) + 1);
    }
    let chiSquare = 0;
    for (const [i, weight] of kept.entries()) {
      const count = counts.get(i * 299 + 5) ?? 0;
      const expected = (draws * weight) / sum;
      if (weight === 0) assert.equal(count, 0, `token ${i} is cut`);
      else chiSquare += (count - expected) ** 2 / expected;
    }
    // 9 degrees of freedom at most: 27.9 is the 0.1 % point.
    assert.ok(chiSquare < 27.9, `chi-square ${chiSquare} (seed 7)`);
  });
}

/** What one cut leaves, by plain sorting; of equal weights the earlier counts as larger. */
function keptWeights(weights: readonly number[], cut: Partial<SamplingParameters>): number[] {
  const { topP = 1, topK = 0, minP = 0 } = cut;
  const total = weights.reduce((a, b) => a + b, 0);
  const order = weights.map((_, i) => i).sort((a, b) => weights[b]! - weights[a]! || a - b);
  const kept = weights.map(() => 0);
  let sum = 0;
  for (const [rank, i] of order.entries()) {
    if (sum >= topP * total || (topK > 0 && rank >= topK) || weights[i]! < minP) break;
    kept[i] = weights[i]!;
    sum += weights[i]!;
  }
  return kept;
}

test('NaN probabilities are left aside for the logits', () => {
  const [row, probabilities] = rowsOf([1, 2, Number.NaN, 0], 1);
  const sampling = compile({ temperature: 1, topK: 1 });
  const context = { sampling, generated: 0, position: 1, counts: undefined, probabilities, uniform: 0.5 };
  assert.equal(new Sampler(4).sample(row, context), 1);
});

test('of a masked row the token from probabilities is the one from logits, and the likeliest allowed is found', () => {
  const random = new SeededRandom(43);
  for (let round = 0; round < 200; round++) {
    const size = [40, 640, 2100, 5003][round % 4] as number;
    const logits = Array.from({ length: size }, () => (random.next() + random.next() - 1) * 8);
    const share = [0.01, 0.5, 0.98][round % 3] as number;
    const mask = new Uint32Array(Math.ceil(size / 32)).fill(random.integer(2) === 0 ? 0 : 0xffffffff);
    const isAllowed = (token: number) => ((mask[token >> 5] as number) >>> (token & 31)) & 1;
    for (let token = random.integer(64); token < size; token++) {
      const bit = 1 << (token & 31);
      const word = mask[token >> 5] as number;
      mask[token >> 5] = random.next() < share ? word | bit : word & ~bit;
    }
    mask[0] = (mask[0] as number) | 1;
    const sampling = compile({ temperature: 0.7, ...randomCuts(random) });
    const sampler = new Sampler(size);
    const fixed = { generated: 0, position: 1, counts: undefined, mask };
    const at = (draw: number, probabilities?: ProbabilityRow) =>
      sampler.sample(rowsOf(logits, 0.7)[0], { ...fixed, sampling, probabilities, uniform: draw });
    const draw = 1e-5 + random.next() * (1 - 2e-5);
    const token = at(draw, rowsOf(logits, 0.7)[1]);
    const near = [draw, draw - 1e-5, draw + 1e-5].map((other) => at(other));
    assert.ok(near.includes(token) && isAllowed(token) === 1, `round ${round}: ${token}, not one of ${near}`);
    const best = sampler.sample(rowsOf(logits, 1)[0], { ...fixed, sampling: compile({}), uniform: 0 });
    const allowed = logits.map((logit, index) =>
      isAllowed(index) ? Math.fround(logit) : Number.NEGATIVE_INFINITY,
    );
    assert.equal(best, allowed.indexOf(allowed.reduce((a, b) => Math.max(a, b))));
  }
});

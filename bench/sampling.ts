/**
 * npm run bench:sampling -- [--rows 400]
 *
 * Time to choose a token from one row of logits, by vocabulary and kind of request; median of 5 rounds.
 */
import { parseArgs } from 'node:util';
import { SeededRandom, uniform } from '../src/base/random.ts';
import { greedySampling, type SamplingParameters } from '../src/runtime/requests/request.ts';
import { stepsPerUnit } from '../src/runtime/sampling/exponential.ts';
import type { LogitRow } from '../src/runtime/sampling/logit-row.ts';
import { tokenLogprobs } from '../src/runtime/sampling/logprobs.ts';
import { compileSampling } from '../src/runtime/sampling/row-sampling.ts';
import { Sampler } from '../src/runtime/sampling/sampler.ts';
import { TokenCounts } from '../src/runtime/sequences/token-counts.ts';
import { summary } from './support/statistics.ts';

const { values: flags } = parseArgs({ options: { rows: { type: 'string', default: '400' } } });
const rows = Number(flags.rows);
const rounds = 5;
const vocabularies = { 'SmolLM2 (49,152)': 49_152, 'Qwen (151,936)': 151_936 };

const kinds: Record<string, Partial<SamplingParameters>> = {
  greedy: {},
  'greedy, repetition penalty over 1000 tokens': { repetitionPenalty: 1.1 },
  'temperature 1': { temperature: 1 },
  'temperature 1, top-p 0.95': { temperature: 1, topP: 0.95 },
  'temperature 0.7, top-k 40, top-p 0.9': { temperature: 0.7, topK: 40, topP: 0.9 },
  'temperature 1, min-p 0.05': { temperature: 1, minP: 0.05 },
};

/** Logits like a language model's: a bell around 0 with a deviation of about 3, and thirty likely tokens up to 20. */
function modelLikeRow(vocabularySize: number): LogitRow {
  const random = new SeededRandom(1);
  const logits = new Float32Array(vocabularySize);
  for (let i = 0; i < vocabularySize; i++) {
    let sum = 0;
    for (let k = 0; k < 6; k++) sum += random.next() - 0.5;
    logits[i] = sum * 4;
  }
  for (let i = 0; i < 30; i++) logits[random.integer(vocabularySize)] = 8 + random.next() * 12;
  return { logits, start: 0, width: vocabularySize };
}

function measure(label: string, sample: (index: number) => void): void {
  for (let i = 0; i < rows; i++) sample(i);
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const startNs = process.hrtime.bigint();
    for (let i = 0; i < rows; i++) sample(i);
    times.push(Number(process.hrtime.bigint() - startNs) / rows / 1000);
  }
  console.log(`  ${label.padEnd(46)} ${summary(times, 0)} µs a row`);
}

for (const [name, vocabularySize] of Object.entries(vocabularies)) {
  console.log(`${name}, median [min … max] of ${rounds} rounds of ${rows} rows`);
  const random = new SeededRandom(2);
  const tokens = Int32Array.from({ length: 1000 }, () => random.integer(vocabularySize));
  const counts = new TokenCounts(tokens.slice(0, 500));
  for (const token of tokens.subarray(500)) counts.add(token);
  const row = modelLikeRow(vocabularySize);
  const sampler = new Sampler(vocabularySize);
  for (const [kind, parameters] of Object.entries(kinds)) {
    const sampling = compileSampling({
      id: 0,
      promptTokens: tokens,
      sampling: { ...greedySampling, ...parameters },
      maxTokens: 1,
      minTokens: 0,
      stopTokenIds: [],
      sequences: 1,
      priority: 0,
    });
    measure(kind, (index) => {
      sampler.sample(row, {
        sampling,
        generated: 500,
        position: 1000,
        counts,
        uniform: uniform(1, 0, index),
      });
    });
  }
  measure(`top 5 log-probabilities (${stepsPerUnit} steps a unit)`, () => tokenLogprobs(row, 5, 5));
}

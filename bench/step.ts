/**
 * npm run bench:step -- [--models a.gguf] [--sequences 16] [--rounds 5] [--threads 2]
 *
 * Where a decode step's time goes at 16 sequences, in the real arrangement: an engine process under its supervisor, events over the
 * socket. "Compute" is the time inside ggml's graph compute; everything else (planning, inputs, sampling, events, the event loop between
 * two steps) is outside. Bar: at most 5 % outside.
 */
import { parseArgs } from 'node:util';
import { SeededRandom } from '../src/base/random.ts';
import { EngineSupervisor } from '../src/runtime/process/supervisor.ts';
import { greedySampling, type SamplingParameters } from '../src/runtime/requests/request.ts';
import type { EngineStatistics } from '../src/runtime/requests/statistics.ts';
import { benchModels } from './support/models.ts';
import { summary } from './support/statistics.ts';

const { values: flags } = parseArgs({
  options: {
    models: { type: 'string' },
    sequences: { type: 'string', default: '16' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '2' },
  },
});
const sequences = Number(flags.sequences);
const rounds = Number(flags.rounds);
const contextLength = 1024;
const promptLength = 64;
const generate = 96;

const samplings: Record<string, SamplingParameters> = {
  greedy: greedySampling,
  'temperature 0.7, top-p 0.9': { ...greedySampling, temperature: 0.7, topP: 0.9, seed: 1 },
};

/** Runs one batch of chats and returns what the engine counted between "all decode" and "the first one ends". */
async function measure(engine: EngineSupervisor, sampling: SamplingParameters, random: SeededRandom) {
  const { client } = engine;
  let started = 0;
  let before: EngineStatistics | undefined;
  let after: EngineStatistics | undefined;
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      let count = 0;
      client.submit(
        {
          promptTokens: Int32Array.from({ length: promptLength }, () => 300 + random.integer(20_000)),
          sampling,
          maxTokens: generate,
          minTokens: generate,
          stopTokenIds: [],
          sequences: 1,
          priority: 0,
        },
        (event) => {
          if (count === 0) started++;
          count += event.tokens.length;
          // Statistics ride along every 100 ms; the window is cut where they are fresh, on both sides.
          if (started === sequences) {
            const statistics = client.statistics();
            if (!before) before = statistics;
            else if (statistics !== before && count < generate) after = statistics;
          }
          if (event.error) reject(new Error(event.error.message));
          else if (event.finish) resolve();
        },
      );
    });
  await Promise.all(Array.from({ length: sequences }, one));
  if (!before || !after) throw new Error('the run was too short to measure; raise the tokens to generate');
  return { before, after };
}

async function report(name: string, path: string): Promise<void> {
  const engine = await EngineSupervisor.start({
    name,
    device: 'ggml',
    deviceOptions: {},
    engineFolder: path,
    nullModel: { vocabularySize: 1, contextLength },
    threads: Number(flags.threads),
    slots: sequences,
    batchTokensMax: 512,
    kvDtype: 'f16',
    contextLength,
    prefixReuse: false,
  });
  const random = new SeededRandom(1);
  try {
    for (const [label, sampling] of Object.entries(samplings)) {
      await measure(engine, sampling, random);
      const outside: number[] = [];
      const stepMs: number[] = [];
      for (let round = 0; round < rounds; round++) {
        const { before, after } = await measure(engine, sampling, random);
        const steps = after.steps - before.steps;
        const computeNs = after.computeNs - before.computeNs;
        const wallNs = after.atNs - before.atNs;
        stepMs.push(wallNs / steps / 1e6);
        outside.push((1 - computeNs / wallNs) * 100);
      }
      console.log(`${name}, ${sequences} sequences, ${label}:`);
      console.log(
        `  step ${summary(stepMs, 2)} ms   outside ggml compute ${summary(outside, 2)} %   bar ≤ 5 %`,
      );
    }
  } finally {
    await engine.close();
  }
}

console.log(`median [min … max] of ${rounds} rounds, ${flags.threads} threads`);
for (const { name, path } of await benchModels(flags.models)) await report(name, path);

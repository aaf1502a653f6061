/**
 * npm run bench:beams -- [--rounds 7] [--threads 2] [--width 4]
 *
 * A beam search against as many parallel sequences of the same length, interleaved in one process: both compute the same rows, so what is missing is
 * what the search costs (ranking, forks in the KV cache). Bar: at least 0.8.
 */
import { parseArgs } from 'node:util';
import { ensureEngine } from '../src/artifact/resolver.ts';
import { openEngine } from '../src/builder/open-engine.ts';
import { silentReporter } from '../src/builder/reporter.ts';
import { EngineCore } from '../src/runtime/loop/engine-core.ts';
import { loadModel } from '../src/runtime/process/load-model.ts';
import { type GenerationRequest, greedySampling } from '../src/runtime/requests/request.ts';
import { ratios, summary } from './support/statistics.ts';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    threads: { type: 'string', default: '2' },
    width: { type: 'string', default: '4' },
  },
});
const width = Number(flags.width);
const maxTokens = 96;

async function measure(name: string): Promise<void> {
  const { folder } = await ensureEngine(name, { reporter: silentReporter });
  const { source } = await openEngine(folder);
  const { model, device, options } = await loadModel(name, source, {
    ...{ device: 'ggml', deviceOptions: {}, threads: Number(flags.threads), slots: width },
    ...{ batchTokensMax: 256, kvDtype: 'f16', contextLength: 512, prefixReuse: false },
  });
  const core = new EngineCore(model, options, () => {});
  let id = 0;
  const base: Omit<GenerationRequest, 'id'> = {
    promptTokens: Int32Array.from({ length: 64 }, (_, at) => 300 + ((at * 37) % 3000)),
    sampling: { ...greedySampling, temperature: 1, seed: 1 },
    maxTokens,
    minTokens: 0,
    stopTokenIds: [],
    sequences: width,
    priority: 0,
  };
  const beams = { width, lengthPenalty: 1, earlyStopping: false, diversityRate: 0 };
  const rateOf = async (request: Omit<GenerationRequest, 'id'>): Promise<number> => {
    const startMs = performance.now();
    core.submit({ ...request, id: id++ });
    while (core.hasRunnable) await core.step();
    return (width * maxTokens) / ((performance.now() - startMs) / 1000);
  };
  const parallel: number[] = [];
  const searching: number[] = [];
  for (let round = -1; round < Number(flags.rounds); round++) {
    const own = await rateOf(base);
    const found = await rateOf({ ...base, beams });
    if (round < 0) continue;
    parallel.push(own);
    searching.push(found);
  }
  console.log(
    `${name}: ${width} sequences ${summary(parallel)}, ${width} beams ${summary(searching)} tokens/s, ratio ${summary(ratios(searching, parallel), 2)}, bar 0.8`,
  );
  model.close();
  device.close();
}

for (const name of ['nereid-16m', 'smollm2-135m-instruct']) await measure(name);

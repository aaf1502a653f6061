// What of a decode step's time is the host's and not hidden behind the GPU's, through the whole runtime: the GPU's own time of every step against
// the time from step to step. node --import tsx bench/cuda-host.ts [fp8] [SEQUENCES] [PROMPT]
import { SeededRandom } from '../src/base/random.ts';
import type { CudaModel } from '../src/device/cuda/model.ts';
import { EngineCore } from '../src/runtime/loop/engine-core.ts';
import { loadModel } from '../src/runtime/process/load-model.ts';
import { greedySampling } from '../src/runtime/requests/request.ts';
import { clocks, llama8b, randomSource } from './cuda-model.ts';

const isFp8 = process.argv.includes('fp8');
const numbers = process.argv.slice(2).filter((word) => word !== 'fp8');
const [sequences = 256, prompt = 236] = numbers.map(Number);
const output = 96;
const source = await randomSource({ ...llama8b, contextLength: 4096 }, 'bf16');
const { device, model, options } = await loadModel('llama-3.1-8b', source, {
  ...{ device: 'cuda', threads: 1, prefixReuse: false },
  deviceOptions: isFp8 ? { matrices: 'fp8' } : {},
  kvDtype: isFp8 ? 'fp8' : 'f16',
  slots: sequences,
  batchTokensMax: 4096,
});

/** Steps from when all sequences generate to when the first ends: milliseconds from step to step, and the GPU's own. */
async function run(
  seed: number,
  sampling: typeof greedySampling,
): Promise<{ wall: number[]; gpu: number[] }> {
  const random = new SeededRandom(seed);
  const begun = new Set<number>();
  let finished = 0;
  const core = new EngineCore(model, options, (events) => {
    for (const event of events) {
      if (event.tokens.length > 0) begun.add(event.requestId);
      if (event.finish) finished++;
    }
  });
  for (let id = 0; id < sequences; id++) {
    const own = {
      id,
      sampling: { ...sampling, seed: id },
      maxTokens: output,
      minTokens: 0,
      stopTokenIds: [],
    };
    const promptTokens = Int32Array.from({ length: prompt }, () => random.integer(128000));
    core.submit({ ...own, sequences: 1, priority: 0, promptTokens });
  }
  const times = { wall: [] as number[], gpu: [] as number[] };
  let last = 0;
  while (finished < sequences) {
    await core.step();
    const now = performance.now();
    if (begun.size === sequences && finished === 0) {
      if (last > 0) times.wall.push(now - last);
      if (last > 0) times.gpu.push((model as CudaModel).lastStepMs());
      last = now;
    }
  }
  return times;
}

const total = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);
for (const [name, sampling] of [
  ['greedy', greedySampling],
  ['temperature 1, top-p', { ...greedySampling, temperature: 1, topP: 0.95 }],
  ['penalties', { ...greedySampling, temperature: 1, frequencyPenalty: 0.2, repetitionPenalty: 1.1 }],
] as const) {
  await run(1, sampling);
  const { wall, gpu } = await run(2, sampling);
  const share = 1 - total(gpu) / total(wall);
  console.log(
    `${sequences} sequences, ${name}: ${wall.length} steps, ${(total(wall) / wall.length).toFixed(3)} ms from step to step, GPU ${(total(gpu) / gpu.length).toFixed(3)} ms: ${(100 * share).toFixed(1)} % not hidden; ${clocks()}`,
  );
}
model.close();
device.close();

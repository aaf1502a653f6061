// Many requests queued at once, through the whole runtime (scheduler, paged KV, overlapped loop), on the CUDA device with random weights:
// node --import tsx bench/cuda-offline.ts [fp8] REQUESTS PROMPT OUTPUT [SEQUENCES] [BATCH TOKENS] [WARM-UP REQUESTS]
import { SeededRandom } from '../src/base/random.ts';
import { EngineCore } from '../src/runtime/loop/engine-core.ts';
import { loadModel } from '../src/runtime/process/load-model.ts';
import { greedySampling } from '../src/runtime/requests/request.ts';
import { clocks, llama8b, randomSource } from './cuda-model.ts';

const isFp8 = process.argv.includes('fp8');
const [
  requests = 2048,
  prompt = 128,
  output = 128,
  sequences = 1024,
  batchTokens = 4096,
  warm = sequences + 64,
] = process.argv
  .slice(2)
  .filter((word) => word !== 'fp8')
  .map(Number);
const started = performance.now();
const source = await randomSource({ ...llama8b, contextLength: 4096 }, 'bf16');
const { device, model, options } = await loadModel('llama-3.1-8b', source, {
  ...{ device: 'cuda', threads: 1, prefixReuse: false },
  deviceOptions: isFp8 ? { matrices: 'fp8' } : {},
  kvDtype: isFp8 ? 'fp8' : 'f16',
  slots: sequences,
  batchTokensMax: batchTokens,
});
console.log(
  `loaded in ${(performance.now() - started).toFixed(0)} ms; KV of ${model.kv.blocks} blocks, ${((model.kv.blocks * model.kv.blockPositions) / 1e3).toFixed(0)}k positions`,
);

/** @returns seconds, and host milliseconds of every step that collected a result */
async function run(count: number, seed: number): Promise<void> {
  const random = new SeededRandom(seed);
  let tokens = 0;
  let finished = 0;
  let errors = 0;
  const core = new EngineCore(model, { ...options, queuedRequestsMax: count }, (events) => {
    for (const event of events) {
      tokens += event.tokens.length;
      if (event.finish) finished++;
      if (event.error) {
        errors++;
        if (errors === 1) console.log(JSON.stringify(event.error));
      }
    }
  });
  for (let id = 0; id < count; id++) {
    core.submit({
      ...{
        id,
        sampling: greedySampling,
        maxTokens: output,
        minTokens: 0,
        stopTokenIds: [],
        sequences: 1,
        priority: 0,
      },
      promptTokens: Int32Array.from({ length: prompt }, () => random.integer(128000)),
    });
  }
  const begin = performance.now();
  let steps = 0;
  let first = 0;
  while (finished < count) {
    await core.step();
    steps++;
    if (tokens > 0) first ||= performance.now() - begin;
  }
  const seconds = (performance.now() - begin) / 1000;
  console.log(
    `${count} × ${prompt}/${output}, ${sequences} sequences, ${batchTokens} batch tokens: ${seconds.toFixed(2)} s, ${steps} steps, first token after ${first.toFixed(0)} ms, ${(tokens / seconds).toFixed(0)} output tokens/s, errors ${errors}; ${clocks()}`,
  );
}

await run(Math.min(requests, warm), 1);
await run(requests, 2);
model.close();
device.close();

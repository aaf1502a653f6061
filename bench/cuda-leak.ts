// 20,000 steps of a small model on the CUDA device, with what the GPU and the process hold before and after:
// node --import tsx bench/cuda-leak.ts
import { openDevice } from '../src/device/cuda/index.ts';
import { llama8b, randomSource, step } from './cuda-model.ts';

const device = openDevice({});
const small = {
  ...llama8b,
  layers: 2,
  width: 512,
  heads: 4,
  kvHeads: 2,
  feedForwardWidth: 1024,
  vocabularySize: 2000,
};
const weights = await device.load(await randomSource({ ...small, contextLength: 4096 }, 'bf16'), {
  ...{ batchTokensMax: 512, kvDtype: 'f16', threads: 1 },
});
const model = await weights.allocateKv({ blocks: 512, blockPositions: 32, hostBlocks: 0 });
const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1);

async function run(steps: number): Promise<void> {
  for (let k = 0; k < steps; k++) {
    const rows = 1 + (k % 24);
    const parts = Array.from({ length: rows }, (_, s) => ({
      tokens: [s],
      position: k % 32,
      blocks: [s],
      wants: true,
    }));
    if (k % 5 === 0)
      parts.push({
        tokens: Array.from({ length: 20 }, (_, t) => t),
        position: 0,
        blocks: [100],
        wants: true,
      });
    await step(model, parts);
  }
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  console.log(
    `GPU free ${mebibytes(weights.memory().freeBytes)} MiB, rss ${mebibytes(rss)} MiB, heap ${mebibytes(heapUsed)} MiB`,
  );
}

for (const steps of [2000, 8000, 10_000]) await run(steps);
model.close();
device.close();

// Decode steps of a slice of Llama 3.1 70B (its shape, fewer layers) with random weights, on one GPU and divided among several of them, one
// process a GPU: node --import tsx bench/cuda-ranks.ts [RANKS] [LAYERS] [fp8]
import { fork } from 'node:child_process';
import { definite } from '../src/base/errors.ts';
import { openSharedCollective } from '../src/device/collective/open-shared.ts';
import { createRegion, removeRegion } from '../src/device/collective/shared-region.ts';
import { openDevice } from '../src/device/cuda/index.ts';
import type { CudaModel } from '../src/device/cuda/model.ts';
import { divideModel, hyperparametersOfRank } from '../src/models/partition.ts';
import { batchOf, llama8b, randomSource, step } from './cuda-model.ts';

const isFp8 = process.argv.includes('fp8');
const [ranks = 2, layers = 16] = process.argv
  .slice(2)
  .filter((word) => word !== 'fp8' && /^\d+$/.test(word))
  .map(Number);
const whole = {
  ...llama8b,
  ...{ layers, width: 8192, heads: 64, kvHeads: 8, feedForwardWidth: 28672, contextLength: 4096 },
};

/** Milliseconds of a step of so many sequences. */
async function measure(region: string | undefined, rank: number): Promise<number[]> {
  const device = openDevice(isFp8 ? { matrices: 'fp8' } : {});
  const parts = divideModel(whole, { tensor: ranks, pipeline: 1 });
  const own = region ? hyperparametersOfRank(whole, definite(parts[rank], 'a part')) : whole;
  const collective = region && openSharedCollective(region, rank, ranks);
  const weights = await device.load(await randomSource(own, 'bf16'), {
    ...{ batchTokensMax: 2048, threads: 1, kvDtype: isFp8 ? 'fp8' : 'f16' },
    ...(collective && { collective }),
  });
  const model = (await weights.allocateKv({
    blocks: 2048,
    blockPositions: 32,
    hostBlocks: 0,
  })) as CudaModel;
  const results: number[] = [];
  for (const count of [1, 64]) {
    const context = 300;
    const tables = Array.from({ length: count }, (_, s) => Array.from({ length: 16 }, (_, k) => s * 16 + k));
    const rows = (at: number, first: boolean) =>
      tables.map((blocks, s) => ({
        ...{ tokens: [first ? 1000 + s : -1 - s], position: at, wants: true },
        blocks: blocks.slice(0, Math.ceil((at + 1) / 32)),
      }));
    for (const [s, blocks] of tables.entries())
      await step(model, [
        {
          tokens: Array.from({ length: context }, (_, k) => (k * 7919 + s) % 128000),
          position: 0,
          blocks,
          wants: true,
        },
      ]);
    for (let k = 0; k < 4; k++) await step(model, rows(context + k, k === 0));
    const batches = Array.from({ length: 48 }, (_, k) => batchOf(rows(context + 4 + k, false)));
    const begin = performance.now();
    model.launch(definite(batches[0], 'a batch'));
    for (const batch of batches.slice(1)) {
      model.launch(batch);
      await model.collect();
    }
    const { output } = await model.collect();
    results.push((performance.now() - begin) / batches.length, output.tokens[0] ?? -1);
  }
  model.close();
  device.close();
  return results;
}

if (process.send) {
  process.once('message', async ({ region, rank }: { region: string; rank: number }) => {
    process.send?.(await measure(region, rank));
    process.disconnect();
  });
} else {
  const line = (name: string, [one = 0, first = 0, many = 0, second = 0]: number[]) =>
    console.log(
      `${name}: batch 1 ${one.toFixed(3)} ms = ${(1000 / one).toFixed(1)} tok/s, batch 64 ${many.toFixed(3)} ms = ${(64000 / many).toFixed(0)} tok/s; last tokens ${first}, ${second}`,
    );
  const alone = await measure(undefined, 0);
  line('one GPU', alone);
  const region = createRegion(ranks, 'bench');
  try {
    const all = await Promise.all(
      Array.from(
        { length: ranks },
        (_, rank) =>
          new Promise<number[]>((resolve, reject) => {
            const child = fork(import.meta.filename, process.argv.slice(2), {
              execArgv: ['--import', 'tsx'],
              serialization: 'advanced',
            });
            child.once('message', (result: number[]) => resolve(result));
            child.once('exit', (code) => reject(new Error(`rank ${rank} ended with ${code}`)));
            child.send({ region, rank });
          }),
      ),
    );
    const slowest = definite(all[0], 'a rank').map((_, k) => Math.max(...all.map((own) => own[k] ?? 0)));
    line(`${ranks} GPUs`, slowest);
    const ratio = (k: number) => ((alone[k] ?? 0) / (slowest[k] ?? 1)).toFixed(2);
    console.log(`${ranks} GPUs are ${ratio(0)} times as fast at batch 1, ${ratio(2)} at batch 64`);
  } finally {
    removeRegion(region);
  }
}

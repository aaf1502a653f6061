import { definite } from '../src/base/errors.ts';
// Steps of a Llama-3.1-8B-shaped model with random weights on the CUDA device: `node --import tsx bench/cuda-steps.ts [fp8] [PART...]`.
// Parts: one, few, ctx260, ctx1030, prefill; default all. `fp8` makes matrices and KV cache e4m3.

import { openDevice } from '../src/device/cuda/index.ts';
import type { CudaModel } from '../src/device/cuda/model.ts';
import { batchOf, clocks, llama8b, type Part, randomSource, step } from './cuda-model.ts';

const wanted = process.argv.slice(2).filter((word) => word !== 'fp8');
const has = (part: string) => wanted.length === 0 || wanted.includes(part);
const isFp8 = process.argv.includes('fp8');
const started = performance.now();
const device = await openDevice(isFp8 ? { matrices: 'fp8' } : {});
console.log(JSON.stringify(device.describe()));
const source = await randomSource({ ...llama8b, contextLength: 4096 }, 'bf16');
const weights = await device.load(source, {
  ...{ batchTokensMax: 8192, threads: 1 },
  kvDtype: isFp8 ? 'fp8' : 'f16',
});
const gib = 2 ** 30;
const { freeBytes } = weights.memory();
console.log(
  `weights ${(weights.weightBytes / gib).toFixed(2)} GiB, free ${(freeBytes / gib).toFixed(1)} GiB, loaded in ${(performance.now() - started).toFixed(0)} ms`,
);
const blocks = Math.floor((freeBytes * 0.9) / (weights.kv.bytesPerPosition * 32));
const model = (await weights.allocateKv({ blocks, blockPositions: 32, hostBlocks: 0 })) as CudaModel;

function sequences(count: number, context: number): number[][] {
  const each = Math.ceil((context + 128) / 32);
  return Array.from({ length: count }, (_, s) => Array.from({ length: each }, (_, k) => s * each + k));
}

async function prefill(tables: number[][], context: number): Promise<void> {
  for (const [s, table] of tables.entries()) {
    const tokens = Array.from({ length: context }, (_, k) => (k * 7919 + s * 104729) % 128000);
    await step(model, [{ tokens, position: 0, blocks: table, wants: true }]);
  }
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] as number;

async function decode(count: number, context: number, steps = 48): Promise<void> {
  const tables = sequences(count, context);
  await prefill(tables, context);
  const parts = (at: number, first: boolean): Part[] =>
    tables.map((table, s) => ({
      tokens: [first ? 1000 + s : -1 - s],
      position: at,
      blocks: table.slice(0, Math.ceil((at + 1) / 32)),
      wants: true,
    }));
  for (let k = 0; k < 4; k++) await step(model, parts(context + k, k === 0));
  // Batches are made ahead: planning them is the scheduler's work, measured elsewhere.
  const batches = Array.from({ length: steps }, (_, k) => batchOf(parts(context + 4 + k, false)));
  const gpuMs: number[] = [];
  let hostMs = 0;
  const begin = performance.now();
  model.launch(definite(batches[0], 'a batch'));
  for (let k = 1; k < steps; k++) {
    const at = performance.now();
    model.launch(definite(batches[k], 'a batch'));
    hostMs += performance.now() - at;
    await model.collect();
  }
  await model.collect();
  const wall = (performance.now() - begin) / steps;
  for (let k = 0; k < 5; k++) {
    await step(model, parts(context + 4 + steps + k, false));
    gpuMs.push(model.lastStepMs());
  }
  const ms = wall.toFixed(3);
  console.log(
    `decode ${count} × ctx ${context + steps / 2}: ${ms} ms a step = ${((count / wall) * 1000).toFixed(0)} tok/s; GPU alone ${median(gpuMs).toFixed(3)} ms, launch ${(hostMs / steps).toFixed(3)} ms; ${clocks()}`,
  );
}

async function profile(count: number, context: number): Promise<void> {
  const tables = sequences(count, context);
  await prefill(tables, context);
  const parts = tables.map((table, s) => ({
    tokens: [1000 + s],
    position: context,
    blocks: table,
    wants: true,
  }));
  await step(model, parts);
  await step(model, parts);
  const times = model.profile(batchOf(parts));
  console.log(
    `profile ${count} × ${context}: ${[...times].map(([name, ms]) => `${name} ${ms.toFixed(3)}`).join('; ')}`,
  );
}

async function prefillBench(count: number, context: number, perStep: number): Promise<void> {
  const tables = sequences(count, context);
  const batches: Part[][] = [];
  for (let s = 0; s < count; s += perStep) {
    batches.push(
      tables.slice(s, s + perStep).map((table, k) => ({
        tokens: Array.from({ length: context }, (_, t) => (t * 7919 + (s + k) * 104729) % 128000),
        position: 0,
        blocks: table.slice(0, Math.ceil(context / 32)),
        wants: true,
      })),
    );
  }
  for (const batch of batches.slice(0, 2)) await step(model, batch);
  const prepared = batches.map((parts) => batchOf(parts));
  const begin = performance.now();
  model.launch(definite(prepared[0], 'a batch'));
  for (const batch of prepared.slice(1)) {
    model.launch(batch);
    await model.collect();
  }
  await model.collect();
  const wall = performance.now() - begin;
  console.log(
    `prefill ${count} × ${context}, ${perStep} a step: ${wall.toFixed(1)} ms = ${((count * context * 1000) / wall).toFixed(0)} tok/s; ${clocks()}`,
  );
}

if (has('one')) {
  await decode(1, 350);
  await decode(1, 350);
  await profile(1, 350);
}
if (has('few')) {
  for (const count of [2, 4, 8]) await decode(count, 350);
  await decode(64, 260);
}
if (has('ctx260')) {
  await decode(256, 236);
  await profile(256, 260);
}
if (has('ctx1030')) {
  await decode(256, 1006);
  await profile(256, 1030);
}
if (has('prefill')) {
  await prefillBench(16, 2048, 1);
  await prefillBench(16, 2048, 4);
  const table = sequences(2, 2048);
  const parts = table.map((blocks) => ({
    tokens: Array.from({ length: 2048 }, (_, k) => k),
    position: 0,
    blocks: blocks.slice(0, 64),
    wants: true,
  }));
  await step(model, parts);
  const times = [...model.profile(batchOf(parts))].map(([name, ms]) => `${name} ${ms.toFixed(3)}`);
  console.log(`profile prefill 2 × 2048: ${times.join('; ')}`);
}
model.close();
device.close();

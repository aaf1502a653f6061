import { openEngine } from './src/builder/open-engine.ts';
import { openDevice } from './src/device/ggml/index.ts';
import { batchOf, loadModel } from './test/device/steps.ts';
import { want } from './src/device/step.ts';
import { ensureEngine } from './src/artifact/resolver.ts';
import { columnsOf, placeColumns } from './src/device/collective/collective.ts';
const big = new Float32Array(1 << 20), big2 = new Float32Array(1 << 20);
let exchangeNs = 0; let count = 0;
const loop = (rank: number) => ({ rank, ranks: 2,
  allReduce(v: Float32Array) { const t = performance.now(); big.set(v); const b = big2; for (let i = 0; i < v.length; i++) v[i] = big[i]! + b[i]!; exchangeNs += performance.now() - t; count++; },
  allGather(own: Float32Array, widths: readonly number[], joined: Float32Array) { const t = performance.now(); for (let r = 0; r < 2; r++) { const c = columnsOf(widths, r); placeColumns(big2.subarray(0, (own.length / widths[rank]!) * c.width), 0, c, joined); } exchangeNs += performance.now() - t; },
  close() {} });
async function model(tensor: number, rank: number) {
  const { folder } = await ensureEngine('smollm2-135m-instruct', { recipe: { tensorParallel: tensor } });
  const { source } = await openEngine(folder, { rank });
  const device = openDevice({});
  return loadModel(device, { ...source, contextLength: 512 }, { slots: 16, batchTokensMax: 512, kvDtype: 'f16', threads: 1, ...(tensor > 1 && { collective: loop(rank) }) } as never);
}
const models = { alone: await model(1, 0), rank0: await model(2, 0), rank1: await model(2, 1) };
const best: Record<string, number[]> = { alone: [], rank0: [], rank1: [] };
const ex: Record<string, number[]> = { alone: [], rank0: [], rank1: [] };
for (const [name, m] of Object.entries(models)) {
  for (let slot = 0; slot < 16; slot++) { const b = batchOf(m, [{ slot, position: 0, tokens: Array.from({ length: 100 }, (_, i) => 300 + i) }], { outputRows: [99], wants: want.token }); m.launch(b); await m.collect(); }
}
for (let round = 0; round < 60; round++) for (const [name, m] of Object.entries(models)) {
  const b = batchOf(m, Array.from({ length: 16 }, (_, slot) => ({ slot, position: 100 + round, tokens: [500] })), { outputRows: [...Array(16).keys()], wants: want.token });
  exchangeNs = 0; count = 0;
  const t = performance.now(); m.launch(b); await m.collect(); best[name]!.push(performance.now() - t); ex[name]!.push(exchangeNs);
}
for (const name of Object.keys(best)) { const s = best[name]!.sort((a, b) => a - b); console.log(name, 'min', s[0]!.toFixed(2), 'p10', s[6]!.toFixed(2), 'p50', s[30]!.toFixed(2), 'exchange min', Math.min(...ex[name]!).toFixed(2), count); }

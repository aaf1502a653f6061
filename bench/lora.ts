/**
 * npm run bench:lora [-- --models a.gguf] [--threads 2] [--context 128] [--rounds 40]
 *
 * What LoRA adapters cost on ggml: decode steps of 16 sequences without adapters, with eight loaded that nobody uses, and over all eight (rank 8,
 * all linears), turn and turn about in one run. Tokens a second from the fastest compute calls, which other work on the machine disturbs
 * least, and from the medians; ratios to the model alone.
 */
import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';
import { SeededRandom } from '../src/base/random.ts';
import { openEngine } from '../src/builder/open-engine.ts';
import type { AdapterTensors, LinearShapes } from '../src/device/adapters.ts';
import { linearShapes } from '../src/device/adapters.ts';
import { type GgmlModel, openDevice } from '../src/device/ggml/index.ts';
import { want } from '../src/device/step.ts';
import { batchOf, loadModel, operate, operation, runBatch } from '../test/device/steps.ts';
import { benchModels } from './support/models.ts';

const { values: flags } = parseArgs({
  options: {
    models: { type: 'string' },
    threads: { type: 'string', default: '2' },
    context: { type: 'string', default: '128' },
    rounds: { type: 'string', default: '40' },
  },
});
const context = Number(flags.context);
const rounds = Number(flags.rounds);
const sequences = 16;
const adapters = 8;
const rank = 8;

function randomAdapter(shapes: LinearShapes, seed: number): AdapterTensors {
  const random = new SeededRandom(seed);
  const floats = (length: number) => Float32Array.from({ length }, () => (random.next() - 0.5) * 0.01);
  const parts = [...shapes]
    .filter(([name]) => name !== 'output')
    .map(([name, { inputs, outputs }]) => ({
      ...{ name, rank, inputs, outputs },
      a: floats(rank * inputs),
      b: floats(outputs * rank),
    }));
  const byteLength = parts.reduce((sum, { a, b }) => sum + a.byteLength + b.byteLength, 0);
  return { digest: createHash('sha256').update(`${seed}`).digest('hex'), rank, parts, byteLength };
}

async function open(path: string, isAdapted: boolean): Promise<GgmlModel> {
  const { source } = await openEngine(path);
  const contextLength = Math.min(source.contextLength, context + rounds + 8);
  const room = { slots: adapters, rankMax: 16, rankRows: adapters * 16 };
  const model = (await loadModel(
    openDevice({}),
    { ...source, contextLength },
    {
      ...{ slots: sequences, batchTokensMax: 256, kvDtype: 'f16', threads: Number(flags.threads) },
      adapters: room,
    },
  )) as GgmlModel;
  const shapes = linearShapes(source.record({ tokens: 1, outputRows: 1 }));
  for (let slot = 0; isAdapted && slot < adapters; slot++) {
    model.adapters?.load(slot, randomAdapter(shapes, slot));
  }
  const prompt = Array.from({ length: context }, (_, i) => (i * 7919 + 300) % source.vocabularySize);
  await runBatch(model, batchOf(model, [{ slot: 0, position: 0, tokens: prompt }], { outputRows: [] }));
  for (let slot = 1; slot < sequences; slot++) await operate(model, operation('copy', 0, slot, context));
  return model;
}

/** One decode step. @returns its compute time in nanoseconds */
async function step(model: GgmlModel, round: number, usesAdapters: boolean): Promise<number> {
  const extensions = Array.from({ length: sequences }, (_, slot) => ({
    ...{ slot, position: context + round, tokens: [300 + ((slot * 31 + round) % 1000)] },
    ...(usesAdapters && { adapter: slot % adapters }),
  }));
  const outputRows = extensions.map((_, row) => row);
  await runBatch(model, batchOf(model, extensions, { outputRows, wants: want.token }));
  return model.times.computeNs + model.times.inputsNs;
}

const median = (values: number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

for (const { name, path } of await benchModels(flags.models)) {
  const [plain, adapted] = [await open(path, false), await open(path, true)];
  const kinds = [
    { label: 'the model alone', model: plain, uses: false, times: [] as number[] },
    { label: `${adapters} adapters loaded, none used`, model: adapted, uses: false, times: [] as number[] },
    {
      label: `${sequences} sequences over ${adapters} adapters`,
      model: adapted,
      uses: true,
      times: [] as number[],
    },
  ];
  for (let round = 0; round < rounds; round++) {
    for (const { model, uses, times } of kinds) times.push(await step(model, round, uses));
    // The first of each records its graph.
    if (round === 0) for (const { times } of kinds) times.length = 0;
  }
  console.log(`\n${name}: ${flags.threads} threads, context ${context}, rank ${rank}, all linears`);
  console.log(`  ${''.padEnd(32)}  tokens/s    ratio   median   ratio`);
  const base = kinds[0]?.times ?? [];
  for (const { label, times } of kinds) {
    const least = Math.min(...times);
    const columns = [
      ((sequences / least) * 1e9).toFixed(0).padStart(8),
      (Math.min(...base) / least).toFixed(3).padStart(8),
      ((sequences / median(times)) * 1e9).toFixed(0).padStart(8),
      (median(base) / median(times)).toFixed(3).padStart(7),
    ];
    console.log(`  ${label.padEnd(32)}${columns.join(' ')}`);
  }
  plain.close();
  adapted.close();
}

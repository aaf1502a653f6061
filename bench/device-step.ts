/**
 * node --import tsx bench/device-step.ts [--models a.gguf,b.gguf] [--threads 2] [--context 256] [--rounds 9] [--repack true] [--poll 1]
 *
 * Where the ggml device's own time goes, without scheduler, sampler or process boundary: one sequence, 16 sequences, and a prompt of 512
 * tokens. Milliseconds, medians; "least" is the fastest compute call, which other work on the machine disturbs least.
 */
import { parseArgs } from 'node:util';
import { openEngine } from '../src/builder/open-engine.ts';
import { type GgmlModel, openDevice } from '../src/device/ggml/index.ts';
import { want } from '../src/device/step.ts';
import { batchOf, loadModel, operate, operation, runBatch } from '../test/device/steps.ts';
import { benchModels } from './support/models.ts';

const { values: flags } = parseArgs({
  options: {
    models: { type: 'string' },
    threads: { type: 'string', default: '2' },
    context: { type: 'string', default: '256' },
    rounds: { type: 'string', default: '9' },
    repack: { type: 'string', default: 'true' },
    poll: { type: 'string', default: '1' },
  },
});
const context = Number(flags.context);
const rounds = Number(flags.rounds);
const promptTokens = 512;
const sequencesMax = 16;

/** A segment: its slot, its rows, and the positions that it ends at. */
type Part = readonly [slot: number, rows: number, kvLength: number];

async function runStep(model: GgmlModel, vocabularySize: number, parts: readonly Part[]) {
  let last = -1;
  const extensions = parts.map(([slot, own, end]) => ({
    slot,
    position: end - own,
    tokens: Array.from({ length: own }, (_, i) => ((end + i) * 7919 + 300) % vocabularySize),
  }));
  const outputRows = parts.map(([, own]) => {
    last += own;
    return last;
  });
  await runBatch(model, batchOf(model, extensions, { outputRows, wants: want.token }));
  return { ...model.times };
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const milliseconds = (ns: number): string => (ns / 1e6).toFixed(3).padStart(9);

async function report(name: string, path: string): Promise<void> {
  const { source } = await openEngine(path);
  const contextLength = Math.min(source.contextLength, context + promptTokens + rounds);
  const device = openDevice({ repack: flags.repack, poll: flags.poll });
  const startMs = performance.now();
  const model = (await loadModel(
    device,
    { ...source, contextLength },
    { slots: sequencesMax + 1, batchTokensMax: promptTokens, kvDtype: 'f16', threads: Number(flags.threads) },
  )) as GgmlModel;
  const loadMs = performance.now() - startMs;
  const step = (parts: readonly Part[]) => runStep(model, source.vocabularySize, parts);

  await step([[0, context, context]]);
  for (let slot = 1; slot < sequencesMax; slot++) await operate(model, operation('copy', 0, slot, context));
  console.log(`\n${name}: ${flags.threads} threads, context ${context}, loaded in ${loadMs.toFixed(0)} ms`);
  console.log(`  weights in bytes: ${JSON.stringify(model.parts.weights.placementBytes)}`);
  console.log(`  ${'ms'.padEnd(14)}   record    inputs   compute    output     least   tokens/s`);
  const decode = (count: number) => (round: number) =>
    Array.from({ length: count }, (_, slot): Part => [slot, 1, context + 1 + round]);
  const scenarios: [string, number, (round: number) => Part[]][] = [
    ['1 sequence', 1, decode(1)],
    ['4 sequences', 4, decode(4)],
    [`${sequencesMax} sequences`, sequencesMax, decode(sequencesMax)],
    [`prompt of ${promptTokens}`, promptTokens, () => [[sequencesMax, promptTokens, promptTokens]]],
  ];
  for (const [label, tokens, parts] of scenarios) {
    await step(parts(0));
    const all: Awaited<ReturnType<typeof step>>[] = [];
    for (let round = 0; round < rounds; round++) all.push(await step(parts(round)));
    const of = (part: keyof (typeof all)[number]) => all.map((times) => times[part]);
    const medians = [of('recordNs'), of('inputsNs'), of('computeNs'), of('outputNs')].map(median);
    const totalNs = medians.reduce((sum, ns) => sum + ns, 0);
    const columns = [...medians, Math.min(...of('computeNs'))].map(milliseconds).join(' ');
    console.log(`  ${label.padEnd(14)}${columns} ${((tokens / totalNs) * 1e9).toFixed(1).padStart(10)}`);
  }
  device.close();
}

for (const { name, path } of await benchModels(flags.models)) await report(name, path);

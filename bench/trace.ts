/**
 * npm run bench:trace -- [--models a.gguf] [--sequences 16] [--rounds 7] [--threads 2]
 *
 * What tracing costs: one event, the events of a step, and tokens a second with the tracer on and off, in interleaved rounds over two
 * engine processes of the same model. Bars: an event ≤ 150 ns; events a step × that ≤ 1 % of a step; no loss beyond the spread.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { SeededRandom } from '../src/base/random.ts';
import { EngineSupervisor } from '../src/runtime/process/supervisor.ts';
import { greedySampling } from '../src/runtime/requests/request.ts';
import { phases } from '../src/trace/phases.ts';
import { TraceFile } from '../src/trace/reader.ts';
import { summarizeTrace } from '../src/trace/summary.ts';
import { segmentEvents, Tracer } from '../src/trace/tracer.ts';
import { type BenchModel, benchModels } from './support/models.ts';
import { median, ratios, summary } from './support/statistics.ts';

const bars = { eventNs: 150, stepShare: 0.01 };

const { values: flags } = parseArgs({
  options: {
    models: { type: 'string' },
    sequences: { type: 'string', default: '16' },
    rounds: { type: 'string', default: '7' },
    threads: { type: 'string', default: '2' },
  },
});
const sequences = Number(flags.sequences);
const rounds = Number(flags.rounds);
const contextLength = 512;
const promptLength = 32;
const generate = 96;
const folder = mkdtempSync(join(tmpdir(), 'nereid-bench-trace-'));

/** Nanoseconds of one clock reading, as a monotonic clock costs in the ways that Node has. */
function clockCosts(): string {
  const repeats = 200_000;
  const cost = (read: () => unknown): string => {
    for (let i = 0; i < repeats; i++) read();
    const startNs = process.hrtime.bigint();
    for (let i = 0; i < repeats; i++) read();
    return (Number(process.hrtime.bigint() - startNs) / repeats).toFixed(0);
  };
  const hrtime = cost(() => process.hrtime());
  return `process.hrtime() ${hrtime} ns, performance.now() ${cost(() => performance.now())} ns, process.hrtime.bigint() ${cost(() => process.hrtime.bigint())} ns`;
}

/** Nanoseconds of one event, in batches that fit the ring, the file being written beside. */
async function eventCosts(): Promise<number[]> {
  const tracer = new Tracer({ path: join(folder, 'event.bin'), role: 'bench', isFirst: true });
  const costs: number[] = [];
  for (let batch = 0; batch < 60; batch++) {
    const startNs = process.hrtime.bigint();
    for (let i = 0; i < segmentEvents; i++) {
      tracer.begin(phases.sample, i);
      tracer.end(phases.sample, i);
    }
    costs.push(Number(process.hrtime.bigint() - startNs) / (2 * segmentEvents));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  tracer.close();
  // The first batches run before the compiler.
  return costs.slice(10);
}

function startEngine({ name, path }: BenchModel, traceFile: string | undefined): Promise<EngineSupervisor> {
  if (traceFile === undefined) delete process.env.NEREID_TRACER_OUT;
  else process.env.NEREID_TRACER_OUT = traceFile;
  return EngineSupervisor.start({
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
}

/** Tokens a second of one batch of requests. */
async function tokensPerSecond({ client }: EngineSupervisor, random: SeededRandom): Promise<number> {
  const startMs = performance.now();
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const ids = Math.min(20_000, client.description.vocabularySize) - 300;
      const promptTokens = Int32Array.from({ length: promptLength }, () => 300 + random.integer(ids));
      const lengths = {
        maxTokens: generate,
        minTokens: generate,
        stopTokenIds: [],
        sequences: 1,
        priority: 0,
      };
      client.submit({ promptTokens, sampling: greedySampling, ...lengths }, (event) => {
        if (event.error) reject(new Error(event.error.message));
        else if (event.finish) resolve();
      });
    });
  await Promise.all(Array.from({ length: sequences }, one));
  return (sequences * generate * 1000) / (performance.now() - startMs);
}

async function report(model: BenchModel, eventNs: number): Promise<void> {
  const traceFile = join(folder, 'engine.bin');
  const traced = await startEngine(model, traceFile);
  const plain = await startEngine(model, undefined);
  const random = new SeededRandom(1);
  const rates = { traced: [] as number[], plain: [] as number[] };
  try {
    for (const engine of [traced, plain]) await tokensPerSecond(engine, random);
    for (let round = 0; round < rounds; round++) {
      rates.traced.push(await tokensPerSecond(traced, random));
      rates.plain.push(await tokensPerSecond(plain, random));
    }
  } finally {
    await Promise.all([traced.close(), plain.close()]);
  }
  const trace = new TraceFile(traceFile);
  const { eventsPerStep, phases: totals } = summarizeTrace(trace);
  trace.close();
  const stepUs = totals.find(({ name }) => name === 'STEP')?.p50Us ?? Number.NaN;
  const share = (eventsPerStep * eventNs) / 1000 / stepUs;
  const verdict = share <= bars.stepShare ? 'met' : 'NOT met';
  console.log(`${model.name}, ${sequences} sequences, ${flags.threads} threads:`);
  console.log(
    `  ${eventsPerStep.toFixed(1)} events a step of ${(stepUs / 1000).toFixed(2)} ms: ${(share * 100).toFixed(4)} % of it (bar 1 %: ${verdict})`,
  );
  console.log(`  traced    ${summary(rates.traced, 1)} tokens/s`);
  console.log(`  untraced  ${summary(rates.plain, 1)} tokens/s`);
  console.log(`  ratio     ${summary(ratios(rates.traced, rates.plain), 3)}`);
}

console.log(`median [least … most], ${rounds} interleaved rounds, Node ${process.version}`);
console.log(clockCosts());
const costs = await eventCosts();
const eventNs = median(costs);
console.log(
  `one event ${summary(costs, 0)} ns (bar ${bars.eventNs}: ${eventNs <= bars.eventNs ? 'met' : 'NOT met'})`,
);
for (const model of (await benchModels(flags.models)).slice(0, 1)) await report(model, eventNs);
rmSync(folder, { recursive: true });

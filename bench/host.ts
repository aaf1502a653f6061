/**
 * npm run bench:host -- [--sequences 1024] [--steps 400] [--rounds 5] [--profile]
 *
 * What the host spends on a step, with nothing behind it: the null device samples for nothing (`sampling=none`), and the time inside it is
 * taken off. Milliseconds a step, median [min … max] over the rounds, and the 99.9th percentile of all steps. The last lines: how much of a
 * step is left uncovered when a device of 5 ms works asynchronously and two steps are in flight, and what overlap is worth at 2 ms.
 */
import { parseArgs } from 'node:util';
import { SeededRandom } from '../src/base/random.ts';
import type { DeviceModel } from '../src/device/device.ts';
import { nullModelSource } from '../src/device/null/index.ts';
import type { StepBatch, StepResult } from '../src/device/step.ts';
import { BlockKvCache } from '../src/runtime/kv/blocks.ts';
import { EngineCore } from '../src/runtime/loop/engine-core.ts';
import { loadModel } from '../src/runtime/process/load-model.ts';
import { EngineSupervisor } from '../src/runtime/process/supervisor.ts';
import {
  type GenerationRequest,
  greedySampling,
  type SamplingParameters,
} from '../src/runtime/requests/request.ts';
import { packEvents } from '../src/runtime/transport/messages.ts';
import { summary } from './support/statistics.ts';

const { values: flags } = parseArgs({
  options: {
    sequences: { type: 'string', default: '1024' },
    steps: { type: 'string', default: '400' },
    rounds: { type: 'string', default: '5' },
    only: { type: 'string' },
  },
});
const sequences = Number(flags.sequences);
const steps = Number(flags.steps);
const rounds = Number(flags.rounds);
const vocabularySize = 32_000;
const contextLength = 4096;

/** A device model whose own time is known. */
class TimedModel implements DeviceModel {
  readonly #inner: DeviceModel;
  insideMs = 0;

  constructor(inner: DeviceModel) {
    this.#inner = inner;
  }

  get kv() {
    return this.#inner.kv;
  }

  get weightBytes() {
    return 0;
  }

  get inFlightStepsMax() {
    return this.#inner.inFlightStepsMax;
  }

  get samplingFeatures() {
    return this.#inner.samplingFeatures;
  }

  launch(batch: StepBatch): void {
    const startMs = performance.now();
    this.#inner.launch(batch);
    this.insideMs += performance.now() - startMs;
  }

  collect(): StepResult | Promise<StepResult> {
    const startMs = performance.now();
    const result = this.#inner.collect();
    this.insideMs += performance.now() - startMs;
    return result;
  }

  close(): void {
    this.#inner.close();
  }
}

interface Scenario {
  sampling?: Partial<SamplingParameters>;
  /** Tokens of history before the steps that count. */
  history: number;
  /** Prompt tokens that all requests share. */
  shared?: number;
  /** A request ends and another arrives at every step. */
  arrivals?: boolean;
  stepMs?: number;
  inFlight?: number;
}

async function openCore({ stepMs = 0, inFlight = 1 }: Scenario, running: number) {
  const { model, options } = await loadModel('bench', nullModelSource({ vocabularySize, contextLength }), {
    device: 'null',
    deviceOptions: { sampling: 'none', 'step-ms': String(stepMs) },
    threads: 1,
    slots: running,
    batchTokensMax: running + 4096,
    kvDtype: 'f16',
    kvBytesMax: running * 3072 * 128,
    prefixReuse: true,
    inFlightStepsMax: inFlight,
  });
  const timed = new TimedModel(model);
  let bytes = 0;
  const core = new EngineCore(timed, options, (events) => {
    // What the frame costs is part of the step.
    bytes += packEvents(events).tokens.byteLength;
  });
  return { core, timed, bytes: () => bytes };
}

function requestOf(
  id: number,
  scenario: Scenario,
  random: SeededRandom,
  maxTokens: number,
): GenerationRequest {
  const { shared = 0 } = scenario;
  const own = 40;
  return {
    id,
    promptTokens: Int32Array.from({ length: shared + own }, (_, i) =>
      i < shared ? (i * 7919) % vocabularySize : random.integer(vocabularySize),
    ),
    sampling: { ...greedySampling, seed: id, ...scenario.sampling },
    maxTokens,
    minTokens: 0,
    stopTokenIds: [2],
    sequences: 1,
    priority: 0,
  };
}

/** Host milliseconds of each step. */
async function measure(scenario: Scenario): Promise<number[]> {
  const random = new SeededRandom(1);
  const running = scenario.arrivals ? sequences - 1 : sequences;
  const { core, timed } = await openCore(scenario, sequences);
  let id = 0;
  const forever = contextLength - (scenario.shared ?? 0) - 64;
  for (; id < running; id++) {
    core.submit(requestOf(id, scenario, random, Math.min(forever, scenario.history + steps + 200)));
    if (id % 64 === 0) await core.step();
  }
  for (let step = 0; step < 40 + scenario.history; step++) await core.step();
  const times: number[] = [];
  for (let step = 0; step < steps; step++) {
    if (scenario.arrivals) {
      if (step > 0) core.cancel(id - 1);
      core.submit(requestOf(id++, scenario, random, 10));
    }
    timed.insideMs = 0;
    const startMs = performance.now();
    await core.step();
    times.push(performance.now() - startMs - timed.insideMs);
  }
  return times;
}

const percentile = (values: readonly number[], part: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ??
  Number.NaN;

/** Wall milliseconds a step over a device that takes its time. */
async function pace(stepMs: number, inFlight: number, count: number): Promise<number> {
  const scenario = { history: 0, stepMs, inFlight };
  const { core } = await openCore(scenario, count);
  const random = new SeededRandom(2);
  for (let id = 0; id < count; id++) core.submit(requestOf(id, scenario, random, 2000));
  for (let step = 0; step < 20; step++) await core.step();
  const before = core.statistics();
  const startMs = performance.now();
  for (let step = 0; step < 200; step++) await core.step();
  const wallMs = performance.now() - startMs;
  return wallMs / (core.statistics().steps - before.steps);
}

/** Tokens a second of an engine process under its supervisor, events read by this process. */
async function served(stepMs: number, inFlight: number, count: number): Promise<number> {
  const engine = await EngineSupervisor.start({
    name: 'bench',
    device: 'null',
    deviceOptions: { sampling: 'none', 'step-ms': String(stepMs) },
    nullModel: { vocabularySize, contextLength },
    threads: 1,
    slots: count,
    batchTokensMax: count + 4096,
    kvDtype: 'f16',
    prefixReuse: true,
    inFlightStepsMax: inFlight,
  });
  const random = new SeededRandom(2);
  let tokens = 0;
  for (let id = 0; id < count; id++) {
    const { id: _, ...request } = requestOf(id, { history: 0 }, random, 3000);
    engine.client.submit(request, (event) => {
      tokens += event.tokens.length;
    });
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
  const before = tokens;
  const startMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const rate = (tokens - before) / (performance.now() - startMs);
  await engine.close();
  return rate * 1000;
}

const scenarios: Record<string, { scenario: Scenario; bar: string }> = {
  greedy: { scenario: { history: 0 }, bar: '≤ 0.4' },
  'top-p and penalties, 500 tokens of history': {
    scenario: {
      history: 500,
      sampling: { temperature: 0.8, topP: 0.9, frequencyPenalty: 0.5, repetitionPenalty: 1.1 },
    },
    bar: '≤ 0.6',
  },
  'one admission a step, sharing a prefix of 2,000': {
    scenario: { history: 0, shared: 2000, arrivals: true },
    bar: '≤ 0.7',
  },
};

console.log(
  `host time of a step, ${sequences} sequences, ms, median [min … max] of ${rounds} rounds of ${steps}`,
);
for (const [name, { scenario, bar }] of Object.entries(scenarios)) {
  if (flags.only && !name.includes(flags.only)) continue;
  const medians: number[] = [];
  const all: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const times = await measure(scenario);
    medians.push(percentile(times, 0.5));
    all.push(...times);
  }
  const tail = percentile(all, 0.999).toFixed(2);
  console.log(`  ${name.padEnd(50)} ${summary(medians, 3)}  bar ${bar}; p99.9 ${tail}, bar ≤ 5`);
}
/** Microseconds to find a prompt of 2,000 tokens in a cache of 100,000 blocks that are all in use by others or retained. */
function measureMatch(): number[] {
  const blockPositions = 32;
  const blocks = 100_000;
  const options = {
    blocks,
    blockPositions,
    bytesPerPosition: 1,
    prefixReuse: true,
    hostBlocks: 0,
    nowMs: () => 0,
  };
  const cache = new BlockKvCache({ ...options, retainedBlocksMax: blocks });
  const text = (first: number, length: number) => ({
    length,
    tokenAt: (at: number) => (at * 31 + first) % 50_000,
  });
  for (let first = 0; first < blocks / 63; first++) {
    const tokens = text(first, 2016);
    const demand = { prefixKey: '', tokens, reusableMax: 0, promptLength: tokens.length };
    const place = cache.reserve(demand, 2016);
    cache.writeBlocks(place, 2016, new Int32Array(64), 0);
    cache.commit(place, tokens, 2016);
    cache.release(place, tokens, true);
  }
  return Array.from({ length: 2000 }, (_, i) => {
    const tokens = text(Math.floor(blocks / 63) - 2 - (i % 1000), 2000);
    const startMs = performance.now();
    cache.cost({ prefixKey: '', tokens, reusableMax: 1999, promptLength: tokens.length }, 2100);
    return (performance.now() - startMs) * 1000;
  });
}

/** Milliseconds to cancel every sequence while a step that holds them all is in flight, as when a front end dies. */
async function cancelStorm(): Promise<number> {
  const scenario = { history: 0, stepMs: 5, inFlight: 2 };
  const { core } = await openCore(scenario, sequences);
  const random = new SeededRandom(3);
  for (let id = 0; id < sequences; id++) core.submit(requestOf(id, scenario, random, 2000));
  for (let step = 0; step < 20; step++) await core.step();
  const step = core.step();
  const startMs = performance.now();
  for (let id = 0; id < sequences; id++) core.cancel(id);
  const wallMs = performance.now() - startMs;
  await step;
  while (core.hasRunnable) await core.step();
  return wallMs;
}

if (!flags.only || flags.only === 'cancel') {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) times.push(await cancelStorm());
  console.log(`  cancelling all ${sequences} during a step (10.4 before)            ${summary(times, 2)}`);
}
if (!flags.only || flags.only === 'match') {
  const times = measureMatch();
  const line = `p50 ${percentile(times, 0.5).toFixed(1)}, p99 ${percentile(times, 0.99).toFixed(1)}`;
  console.log(`  a 2,000-token prompt found among 100,000 blocks, µs        ${line}  bar ≤ 50`);
}
if (!flags.only || flags.only === 'overlap') {
  const uncovered: number[] = [];
  const ratios: number[] = [];
  for (let round = 0; round < rounds; round++) {
    uncovered.push((await pace(5, 2, sequences)) - 5);
    ratios.push((await served(2, 2, 256)) / (await served(2, 1, 256)));
  }
  console.log(
    `  behind a 5 ms device, two in flight: not hidden, ms a step ${summary(uncovered, 3)}  bar ≤ 0.15`,
  );
  console.log(`  overlap on ÷ off, 2 ms device, 256 sequences, served ${summary(ratios, 2)}  bar ≥ 1.25`);
}

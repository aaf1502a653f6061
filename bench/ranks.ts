/**
 * npm run bench:ranks -- [--model smollm2-135m-instruct] [--tensor 2] [--pipeline 1] [--sequences 16] [--rounds 5]
 *
 * Decoding on one rank and on several, each a process with one thread, in the real arrangement: engine processes under their supervisor, tokens
 * over the socket. The rounds alternate, so that the machine's drift cancels out. Bar (two tensor ranks, SmolLM2-135M, 16 sequences): 1.5 ×.
 * As many engines of one rank side by side, which exchange nothing, show what the machine's cores have to give.
 */
import { parseArgs } from 'node:util';
import { ensureEngine } from '../src/artifact/resolver.ts';
import { SeededRandom } from '../src/base/random.ts';
import { EngineSupervisor } from '../src/runtime/process/supervisor.ts';
import { greedySampling } from '../src/runtime/requests/request.ts';
import { median, ratios, summary } from './support/statistics.ts';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string', default: 'smollm2-135m-instruct' },
    tensor: { type: 'string', default: '2' },
    pipeline: { type: 'string', default: '1' },
    sequences: { type: 'string', default: '16' },
    rounds: { type: 'string', default: '5' },
  },
});
const sequences = Number(flags.sequences);
const promptLength = 64;
const generate = 96;
const reporter = { start() {}, advance() {}, finish() {}, note: (line: string) => console.error(line) };

interface Group {
  tensor: number;
  pipeline: number;
}

async function startEngine({ tensor, pipeline }: Group): Promise<EngineSupervisor> {
  const recipe = { tensorParallel: tensor, pipelineParallel: pipeline };
  const { folder } = await ensureEngine(flags.model, { reporter, recipe });
  return EngineSupervisor.start({
    name: flags.model,
    device: 'ggml',
    deviceOptions: {},
    engineFolder: folder,
    nullModel: { vocabularySize: 1, contextLength: 1 },
    threads: 1,
    slots: sequences,
    batchTokensMax: 512,
    kvDtype: 'f16',
    kvBytesMax: 2 ** 30,
    contextLength: 512,
    prefixReuse: false,
    ...(tensor * pipeline > 1 && { group: { tensor, pipeline } }),
  });
}

/** Milliseconds of each step from when all sequences decode until the first one ends. */
async function measure({ client }: EngineSupervisor, random: SeededRandom): Promise<number[]> {
  let started = 0;
  let made = 0;
  let ended = 0;
  let lastMs = Number.NaN;
  const steps: number[] = [];
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      let count = 0;
      const promptTokens = Int32Array.from({ length: promptLength }, () => 300 + random.integer(10_000));
      const lengths = {
        maxTokens: generate,
        minTokens: generate,
        stopTokenIds: [],
        sequences: 1,
        priority: 0,
      };
      client.submit({ promptTokens, sampling: greedySampling, ...lengths }, (event) => {
        if (count === 0 && event.tokens.length > 0) {
          started++;
          if (started === sequences) lastMs = performance.now();
        }
        count += event.tokens.length;
        if (started === sequences && ended === 0) {
          made += event.tokens.length;
          // All sequences' tokens of a step come in one message.
          if (made % sequences === 0) {
            const nowMs = performance.now();
            steps.push(nowMs - lastMs);
            lastMs = nowMs;
          }
        }
        if (event.error) reject(new Error(event.error.message));
        if (!event.finish) return;
        ended++;
        resolve();
      });
    });
  await Promise.all(Array.from({ length: sequences }, one));
  return steps;
}

const group = { tensor: Number(flags.tensor), pipeline: Number(flags.pipeline) };
const ranks = group.tensor * group.pipeline;
const copies = await Promise.all(
  Array.from({ length: ranks }, () => startEngine({ tensor: 1, pipeline: 1 })),
);
const [alone] = copies as [EngineSupervisor];
const several = await startEngine(group);
const random = new SeededRandom(1);

/** Tokens a second of each round, at the middle step and at the one that a tenth of the steps beat. */
class Rates {
  readonly middle: number[] = [];
  readonly quick: number[] = [];

  /** @param runs the step times of engines that ran side by side */
  note(runs: number[][]): void {
    const rate = (part: number) =>
      runs.reduce((sum, steps) => {
        const sorted = steps.toSorted((a, b) => a - b);
        return sum + (1000 * sequences) / (sorted[Math.floor(sorted.length * part)] ?? Number.NaN);
      }, 0);
    this.middle.push(rate(0.5));
    this.quick.push(rate(0.1));
  }
}

const [own, all, beside] = [new Rates(), new Rates(), new Rates()];
for (let round = -1; round < Number(flags.rounds); round++) {
  const runs = {
    own: [await measure(alone, random)],
    all: [await measure(several, random)],
    beside: await Promise.all(copies.map((copy) => measure(copy, random))),
  };
  // The first round touches every page of the weights.
  if (round < 0) continue;
  own.note(runs.own);
  all.note(runs.all);
  beside.note(runs.beside);
}
await Promise.all([...copies, several].map((engine) => engine.close()));
console.log(
  `${flags.model}, ${sequences} sequences decoding, one thread a rank; tokens/s: median [least … most] of the rounds`,
);
const rows: [string, Rates][] = [
  ['1 rank', own],
  [`${group.tensor} tensor ranks × ${group.pipeline} stages`, all],
  [`${ranks} engines side by side`, beside],
];
for (const [title, key] of [
  ['middle step', 'middle'],
  ['quickest tenth of the steps', 'quick'],
] as const) {
  console.log(`  ${title}`);
  for (const [name, rates] of rows) {
    const ratio = ratios(rates[key], own[key]);
    const times = rates === own ? '' : `   × ${summary(ratio, 2)}`;
    console.log(`    ${name.padEnd(28)} ${summary(rates[key])}${times}`);
  }
}
const isBar = group.tensor === 2 && group.pipeline === 1 && sequences === 16;
if (isBar)
  console.log(`  bar 1.5 (middle step): ${median(ratios(all.middle, own.middle)) >= 1.5 ? 'met' : 'missed'}`);

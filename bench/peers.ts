/**
 * npm run bench:peers -- [--models a.gguf,b.gguf] [--threads 2] [--rounds 5]
 *
 * Nereid beside node-llama-cpp (llama.cpp, the same ggml release) on the same GGUF files, threads and prompts, greedy. Each side is
 * loaded once in a process of its own; rounds alternate; ratios are taken round by round. Without --models: the catalogue's
 * SmolLM2-135M as it comes (Q4_1), and requantized to Q8_0 by `nereid build`.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { SeededRandom } from '../src/base/random.ts';
import type { ChildCommand, ChildReply, ContenderName } from './peers/child.ts';
import type { RunTimes, Scenario } from './peers/contender.ts';
import { benchModels } from './support/models.ts';
import { ratios, summary } from './support/statistics.ts';

const { values: flags } = parseArgs({
  options: {
    models: { type: 'string' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '5' },
  },
});
const threads = Number(flags.threads);
const rounds = Number(flags.rounds);
const sequences = 16;
const contextLength = 1024;

interface Bar {
  name: string;
  scenario: Scenario;
  unit: string;
  measure: (times: RunTimes) => number;
  ratioMin: number;
}

const random = new SeededRandom(20_261_121);
/** Ids of ordinary tokens: not the specials at a vocabulary's start. */
const prompt = (length: number): number[] => Array.from({ length }, () => 300 + random.integer(20_000));

const bars: Bar[] = [
  {
    name: 'single stream decode',
    scenario: { prompts: [prompt(64)], generate: 128 },
    unit: 'tokens/s',
    measure: (times) => ((times.generated - 1) / times.decodeMs) * 1000,
    ratioMin: 0.97,
  },
  {
    name: '16 concurrent chats, total',
    scenario: {
      prompts: Array.from({ length: sequences }, () => prompt(48 + random.integer(64))),
      generate: 96,
    },
    unit: 'tokens/s',
    measure: (times) => (times.generated / times.totalMs) * 1000,
    ratioMin: 1.2,
  },
  {
    name: 'prefill of 512 tokens',
    scenario: { prompts: [prompt(512)], generate: 1 },
    unit: 'tokens/s',
    measure: (times) => (512 / times.firstTokenMs) * 1000,
    ratioMin: 0.97,
  },
];

class Side {
  readonly #child: ChildProcess;
  peakRssBytes = 0;
  accountedBytes = 0;

  constructor() {
    const path = fileURLToPath(new URL('./peers/child.ts', import.meta.url));
    this.#child = fork(path, {
      execArgv: ['--import', import.meta.resolve('tsx')],
      serialization: 'advanced',
    });
  }

  ask(command: ChildCommand): Promise<ChildReply> {
    return new Promise((resolve, reject) => {
      this.#child.once('message', (raw) => {
        const reply = raw as ChildReply;
        if (reply.kind === 'failed') reject(new Error(reply.message));
        else resolve(reply);
      });
      this.#child.send(command);
    });
  }

  async load(contender: ContenderName, modelPath: string): Promise<void> {
    await this.ask({ kind: 'load', contender, options: { modelPath, threads, sequences, contextLength } });
  }

  async run(scenario: Scenario): Promise<RunTimes> {
    const reply = await this.ask({ kind: 'run', scenario });
    if (reply.kind !== 'ran') throw new Error(`unexpected reply ${reply.kind}`);
    this.peakRssBytes = reply.peakRssBytes;
    this.accountedBytes = reply.accountedBytes ?? 0;
    return reply.times;
  }

  close(): void {
    this.#child.disconnect();
  }
}

async function compare(modelName: string, modelPath: string): Promise<void> {
  console.log(
    `\n${modelName} (${modelPath}), ${threads} threads, ${rounds} interleaved rounds: median [min … max]`,
  );
  const nereid = new Side();
  const peer = new Side();
  try {
    await nereid.load('nereid', modelPath);
    await peer.load('node-llama-cpp', modelPath);
    for (const bar of bars) {
      const own: number[] = [];
      const others: number[] = [];
      await nereid.run(bar.scenario);
      await peer.run(bar.scenario);
      for (let round = 0; round < rounds; round++) {
        // Alternate who goes first, so that neither always runs on a core the other has just heated.
        const order = round % 2 === 0 ? [own, others] : [others, own];
        for (const series of order)
          series.push(bar.measure(await (series === own ? nereid : peer).run(bar.scenario)));
      }
      const ratio = ratios(own, others);
      console.log(`  ${bar.name} (${bar.unit})`);
      console.log(`    nereid ${summary(own)}   node-llama-cpp ${summary(others)}`);
      console.log(`    ratio ${summary(ratio, 3)}   bar ≥ ${bar.ratioMin}`);
    }
    const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
    const overhead = nereid.peakRssBytes - nereid.accountedBytes;
    console.log(`  peak RSS: nereid ${mib(nereid.peakRssBytes)}, node-llama-cpp ${mib(peer.peakRssBytes)}`);
    console.log(`    nereid beyond weights + KV in use: ${mib(overhead)}   bar ≤ 250 MB (238 MiB)`);
  } finally {
    nereid.close();
    peer.close();
  }
}

for (const { name, path } of await benchModels(flags.models)) await compare(name, path);

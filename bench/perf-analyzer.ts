/**
 * npm run bench:perf-analyzer -- --venv FOLDER [--concurrency 4] [--tokens 16] [--step-ms 20] [--interval-ms 4000] [--rounds 3]
 *
 * Whether `nereid load` and the field's own tools measure the same: perf_analyzer over KServe's gRPC stream and genai-perf over OpenAI's
 * chat, each beside ours on the same server (null device), in interleaved rounds. Bar: within 5 % of each other. Latencies to the first
 * output and to the last are compared, not those a token: genai-perf counts tokens of the text anew, which are not those that were made.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../src/base/entry.ts';
import type { LoadPlan } from '../src/load/runner/plan.ts';
import { measureLevel } from '../src/load/runner/sweep.ts';
import type { WorkloadSource } from '../src/load/workload/spec.ts';
import { ForeignTools, howToInstall, type ToolFigures } from './load/foreign-tools.ts';
import { serveBench } from './support/serve.ts';
import { median, ratios, summary } from './support/statistics.ts';

const bar = 0.05;
const model = 'nereid-16m';
const prompt = 'What is a lighthouse?';

const { values: flags } = parseArgs({
  options: {
    venv: { type: 'string', default: '/tmp/perf' },
    concurrency: { type: 'string', default: '4' },
    tokens: { type: 'string', default: '16' },
    'step-ms': { type: 'string', default: '20' },
    'interval-ms': { type: 'string', default: '4000' },
    rounds: { type: 'string', default: '3' },
  },
});
const load = {
  concurrency: Number(flags.concurrency),
  tokens: Number(flags.tokens),
  intervalMs: Number(flags['interval-ms']),
};

/** The same load as ours: windows until three agree, as perf_analyzer has it. */
async function nereid(kind: string, url: string, source: WorkloadSource): Promise<ToolFigures> {
  const plan: LoadPlan = {
    target: {
      kind,
      url,
      model: kind === 'openai-chat' ? model : '',
      headers: {},
      streams: true,
      sampling: { ignoreEos: true },
      extraBody: {},
      timeoutMs: 0,
      channels: 1,
    },
    workload: {
      source,
      output: { distribution: 'normal', mean: load.tokens, spread: 0 },
      seed: 1,
      sendsTokens: false,
      vocabularySize: 4096,
      models: [],
      cancelShare: 0,
      salted: false,
    },
    pace: { kind: 'closed', concurrency: load.concurrency },
    warmupSessions: 1,
    workers: 1,
    keepsText: false,
  };
  const options = { windowMs: load.intervalMs, stability: 0.1, trialsMax: 10, percentiles: [] };
  const { metrics } = await measureLevel(plan, load.concurrency, options);
  return {
    requestMs: metrics.latencies.e2el.mean,
    requestsPerSecond: metrics.requestThroughput,
    ttftMs: metrics.latencies.ttft.mean,
  };
}

function compare(name: string, ours: readonly ToolFigures[], theirs: readonly ToolFigures[]): void {
  for (const [field, title] of [
    ['ttftMs', 'time to first output, ms'],
    ['requestMs', 'request latency, ms'],
    ['requestsPerSecond', 'requests/s'],
  ] as const) {
    const mine = ours.map((one) => one[field] ?? Number.NaN);
    const other = theirs.map((one) => one[field] ?? Number.NaN);
    const ratio = ratios(mine, other);
    const verdict = Math.abs(median(ratio) - 1) <= bar ? 'met' : 'NOT met';
    console.log(
      `${title.padEnd(26)} nereid ${summary(mine, 2)}, ${name} ${summary(other, 2)}: ratio ${summary(ratio, 3)} (bar 5 %: ${verdict})`,
    );
  }
}

const folder = mkdtempSync(join(tmpdir(), 'nereid-bench-tools-'));
const tools = new ForeignTools(flags.venv, folder);
if (!tools.isThere) {
  console.log(howToInstall);
  process.exit(1);
}
const serving = ['--device', 'null', '--device-option', `step-ms=${flags['step-ms']}`, '--grpc-port', '0'];
const server = await serveBench(serving);
const results = {
  grpc: [] as ToolFigures[],
  analyzer: [] as ToolFigures[],
  chat: [] as ToolFigures[],
  genai: [] as ToolFigures[],
};
const exactly = { distribution: 'normal' as const, mean: 32, spread: 0 };
const synthetic = { kind: 'synthetic' as const, input: exactly, prefixes: 1, prefixTokens: 0, turns: 1 };
try {
  const grpc = server.grpc ?? '';
  for (let round = 0; round < Number(flags.rounds); round++) {
    results.grpc.push(await nereid('kserve-grpc', grpc, { kind: 'fixed', prompts: [prompt] }));
    results.analyzer.push(await tools.perfAnalyzer(grpc, prompt, load));
    results.chat.push(await nereid('openai-chat', server.url, synthetic));
    results.genai.push(await tools.genaiPerf(server.url, model, join(packageRoot, 'models', model), load));
  }
} finally {
  await server.stop();
  rmSync(folder, { recursive: true });
}
console.log(
  `${load.concurrency} at a time, ${load.tokens} tokens, null device at ${flags['step-ms']} ms a step; median [least … most] of ${flags.rounds} interleaved rounds`,
);
console.log('KServe gRPC stream, ensemble, beside perf_analyzer 2.51:');
compare('perf_analyzer', results.grpc, results.analyzer);
console.log('OpenAI chat, beside genai-perf 0.0.8:');
compare('genai-perf', results.chat, results.genai);

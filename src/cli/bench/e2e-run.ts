import { type CheckedPrompt, checkEnsemble } from '../../load/runner/ensemble-check.ts';
import type { LoadPlan } from '../../load/runner/plan.ts';
import { runLoad } from '../../load/runner/run.ts';
import { computeMetrics } from '../../load/statistics/metrics.ts';
import { targets } from '../../load/target/registry.ts';
import { openWorkload } from '../../load/workload/open.ts';
import type { Workload } from '../../load/workload/plan.ts';
import { CliError, exitCodes } from '../errors.ts';
import { withInterrupt } from '../interrupt.ts';

/** What commander makes of `nereid bench e2e`'s command line. */
export interface EndToEndFlags {
  url?: string;
  protocol: 'grpc' | 'http';
  concurrency: number;
  maxInputLen: number;
  dataset: string;
  tokenizerDir?: string;
  numRequests?: number;
  modelName: string;
  testBls?: boolean;
  streaming?: boolean;
}

/** Requests before the measurement, and answer tokens a word of the recorded output, as in the original. */
const warmupRequests = 10;
const tokensPerWord = 1.3;

/** Ids that a tokenizer-less workload may draw; the dataset's prompts are text, so none is drawn. */
const vocabularySize = 2;

/** Runs `nereid bench e2e`. @throws LoadError, CliError */
export async function runEndToEnd(flags: EndToEndFlags): Promise<void> {
  const { protocol, streaming = false } = flags;
  if (streaming && protocol === 'http')
    throw new CliError('CLI_VALUE_INVALID', "HTTP's infer answers whole; --streaming takes -i grpc");
  const plan = await planOf(flags);
  const workload = await openWorkload(plan.workload);
  const prompts = Math.min(workload.distinctSessions ?? 0, flags.numRequests ?? Number.POSITIVE_INFINITY);
  const info = (line: string): void => void process.stdout.write(`[INFO] ${line}\n`);
  await withInterrupt(async (signal) => {
    info(`Start testing on ${prompts} prompts.`);
    const models = [flags.modelName, ...(flags.testBls ? ['tensorrt_llm_bls'] : [])];
    await checkEnsemble(promptsOf(workload, prompts), { protocol, server: plan.target, models, signal });
    info('Functionality test succeed.');
    info('Warm up for benchmarking.');
    const result = await runLoad(
      { ...plan, sessions: prompts },
      { signal, onStart: () => info(`Start benchmarking on ${prompts} prompts.`) },
    );
    const metrics = computeMetrics(result.records, result.durationMs, { percentiles: [] });
    info(`Total Latency: ${metrics.durationMs.toFixed(3)} ms`);
    const { mean, count } = metrics.latencies.e2el;
    info(`Total request latencies: ${(mean * count).toFixed(3)} ms`);
    for (const [message, times] of metrics.errors.slice(0, 3)) info(`${times} × ${message}`);
    if (result.isInterrupted) process.exitCode = exitCodes.interrupted;
    else if (metrics.failed > 0) process.exitCode = exitCodes.failure;
  });
}

function* promptsOf(workload: Workload, count: number): Generator<CheckedPrompt> {
  for (let index = 0; index < count; index++) {
    const turn = workload.session(index).turns[0];
    if (turn) yield { text: turn.text ?? '', outputTokens: turn.outputTokensMax };
  }
}

async function planOf(flags: EndToEndFlags): Promise<LoadPlan> {
  const kind = flags.protocol === 'grpc' ? 'kserve-grpc' : 'kserve-http';
  return {
    target: {
      kind,
      url: flags.url ?? (await targets.load(kind)).usualUrl,
      model: flags.modelName,
      headers: {},
      streams: flags.streaming ?? false,
      sampling: { ignoreEos: false },
      extraBody: {},
      timeoutMs: 0,
      channels: 4,
    },
    workload: {
      source: { kind: 'instruction', path: flags.dataset, tokensPerWord },
      seed: 0,
      sendsTokens: false,
      tokenizerFolder: flags.tokenizerDir,
      vocabularySize,
      models: [],
      cancelShare: 0,
      salted: false,
      inputTokensMax: flags.maxInputLen,
    },
    pace: { kind: 'open', arrivals: { kind: 'at-once' }, concurrencyMax: flags.concurrency },
    warmupSessions: warmupRequests,
    workers: 1,
    keepsText: false,
  };
}

import { join } from 'node:path';
import type { Arrivals } from '../../load/arrivals.ts';
import type { LatencyName } from '../../load/statistics/metrics.ts';
import { firstModel } from '../../load/target/models.ts';
import type { LengthSpec, WorkloadSource } from '../../load/workload/spec.ts';
import { CliError } from '../errors.ts';
import { measure } from '../measure/measure.ts';
import { type CommonFlags, headersOf, targetFlags } from '../measure/options.ts';

/** What commander makes of `nereid bench serving`'s command line. */
export interface ServingFlags extends CommonFlags {
  backend: string;
  baseUrl?: string;
  host: string;
  port: number;
  endpoint?: string;
  model?: string;
  tokenizer?: string;
  datasetName: 'random' | 'sharegpt' | 'custom' | 'instruction' | 'prefix_repetition';
  datasetPath?: string;
  numPrompts: number;
  requestRate: number;
  burstiness: number;
  maxConcurrency?: number;
  numWarmups: number;
  seed: number;
  randomInputLen: number;
  randomOutputLen: number;
  randomRangeRatio: number;
  randomPrefixLen: number;
  prefixRepetitionPrefixLen: number;
  prefixRepetitionSuffixLen: number;
  prefixRepetitionNumPrefixes: number;
  prefixRepetitionOutputLen: number;
  sharegptOutputLen?: number;
  customOutputLen?: number;
  percentileMetrics: LatencyName[];
  saveResult?: boolean;
  saveDetailed?: boolean;
  resultDir: string;
  resultFilename?: string;
}

/** vLLM's answer length for custom datasets, and Triton's tokens a word for instruction ones. */
const customOutputTokens = 256;
const tokensPerWord = 1.3;

/** Runs `nereid bench serving`. @throws LoadError, CliError */
export async function runServing(flags: ServingFlags): Promise<void> {
  const kind = flags.backend === 'vllm' ? 'openai' : flags.backend;
  const isGrpc = kind === 'kserve-grpc' || kind === 'briton';
  const url = flags.baseUrl ?? `${isGrpc ? '' : 'http://'}${flags.host}:${flags.port}`;
  const model = flags.model ?? (kind.startsWith('openai') ? await firstModel(url, headersOf(flags)) : '');
  const { source, output } = workloadOf(flags);
  const keepsText = flags.saveDetailed === true;
  await measure(
    {
      // vLLM's benchmark is greedy unless told otherwise.
      target: {
        ...targetFlags({ ...flags, temperature: flags.temperature ?? 0 }),
        kind,
        url,
        path: flags.endpoint,
        model,
        streams: true,
      },
      workload: {
        source,
        output,
        seed: flags.seed,
        sendsTokens: false,
        tokenizerFolder: flags.tokenizer,
        vocabularySize: 4096,
        models: [],
        cancelShare: 0,
        salted: false,
      },
      pace: { kind: 'open', arrivals: arrivalsOf(flags), concurrencyMax: flags.maxConcurrency },
      sessions: flags.numPrompts,
      warmupSessions: flags.numWarmups,
      workers: flags.workers,
      keepsText: keepsText || flags.tokenizer !== undefined,
    },
    {
      percentiles: flags.metricPercentiles,
      goodput: flags.goodput,
      label: flags.label,
      latencies: flags.percentileMetrics,
      showsProgress: flags.progress,
      html: flags.html,
      output: flags.output ?? (flags.saveResult ? resultPath(flags, model) : undefined),
      keepsText,
    },
  );
}

function arrivalsOf({ requestRate: ratePerSecond, burstiness }: ServingFlags): Arrivals {
  if (ratePerSecond === Number.POSITIVE_INFINITY) return { kind: 'at-once' };
  return burstiness === 1 ? { kind: 'poisson', ratePerSecond } : { kind: 'gamma', ratePerSecond, burstiness };
}

function workloadOf(flags: ServingFlags): { source: WorkloadSource; output?: LengthSpec } {
  const exactly = (mean: number): LengthSpec => ({ distribution: 'normal', mean, spread: 0 });
  const around = (mean: number): LengthSpec => ({
    distribution: 'uniform',
    mean,
    spread: mean * flags.randomRangeRatio,
  });
  const maybe = (mean: number | undefined): LengthSpec | undefined =>
    mean === undefined ? undefined : exactly(mean);
  switch (flags.datasetName) {
    case 'random': {
      const prefixes = { prefixes: 1, prefixTokens: flags.randomPrefixLen };
      const source = {
        kind: 'synthetic' as const,
        input: around(flags.randomInputLen),
        turns: 1,
        ...prefixes,
      };
      return { source, output: around(flags.randomOutputLen) };
    }
    case 'prefix_repetition': {
      const input = exactly(flags.prefixRepetitionSuffixLen);
      const prefixes = flags.prefixRepetitionNumPrefixes;
      const prefixTokens = flags.prefixRepetitionPrefixLen;
      const source = { kind: 'synthetic' as const, input, prefixes, prefixTokens, turns: 1 };
      return { source, output: exactly(flags.prefixRepetitionOutputLen) };
    }
    case 'sharegpt':
      return { source: { kind: 'sharegpt', path: pathOf(flags) }, output: maybe(flags.sharegptOutputLen) };
    case 'instruction':
      return { source: { kind: 'instruction', path: pathOf(flags), tokensPerWord } };
    case 'custom':
      return {
        source: { kind: 'custom', path: pathOf(flags) },
        output: exactly(flags.customOutputLen ?? customOutputTokens),
      };
  }
}

function pathOf({ datasetName, datasetPath }: ServingFlags): string {
  if (datasetPath !== undefined) return datasetPath;
  throw new CliError('CLI_ARGUMENT_MISSING', `--dataset-name ${datasetName} needs --dataset-path FILE`);
}

/** vLLM's file name: `openai-8qps-concurrency32-model-date.json`. */
function resultPath(flags: ServingFlags, model: string): string {
  const rate = Number.isFinite(flags.requestRate) ? `${flags.requestRate}` : 'inf';
  const concurrency = flags.maxConcurrency === undefined ? '' : `-concurrency${flags.maxConcurrency}`;
  const date = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
  const name = `${flags.backend}-${rate}qps${concurrency}-${model.split('/').at(-1)}-${date}.json`;
  return join(flags.resultDir, flags.resultFilename ?? name);
}

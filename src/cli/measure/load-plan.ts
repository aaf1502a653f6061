import type { Arrivals } from '../../load/arrivals.ts';
import type { LoadPlan, PaceSpec } from '../../load/runner/plan.ts';
import { firstModel } from '../../load/target/models.ts';
import { targets } from '../../load/target/registry.ts';
import { readArrivalTrace } from '../../load/workload/arrival-trace.ts';
import { outputTokensDefault } from '../../load/workload/open.ts';
import type { LengthSpec, WorkloadSource, WorkloadSpec } from '../../load/workload/spec.ts';
import { CliError } from '../errors.ts';
import { measure } from './measure.ts';
import { type CommonFlags, headersOf, targetFlags } from './options.ts';

/** What commander makes of `nereid load`'s command line. */
export interface LoadFlags extends CommonFlags {
  target: string;
  url?: string;
  endpoint?: string;
  model?: string;
  concurrency?: number;
  requests: number;
  duration?: number;
  requestRate?: number;
  arrivals: 'poisson' | 'constant' | 'gamma';
  burstiness: number;
  replay?: string;
  warmup: number;
  stream: boolean;
  tokenizer?: string;
  detokenize?: boolean;
  keepText?: boolean;
  seed: number;
  inputTokens: number;
  inputStdev: number;
  outputTokens?: number;
  outputStdev: number;
  prompt: string[];
  dataset?: string;
  datasetFormat: 'sharegpt' | 'instruction' | 'custom';
  sharedPrefixes: number;
  sharedPrefixTokens: number;
  turns: number;
  models: string[];
  cancelRate: number;
  salt?: boolean;
  tokenIds?: boolean;
  vocabularySize: number;
}

/** Tokens of an answer per word of the recorded one, as Triton's tools assume. */
const tokensPerWord = 1.3;

/** Requests in flight of a closed loop where the user says nothing. */
const concurrencyDefault = 16;

/** Runs `nereid load`. @throws LoadError, CliError */
export async function runLoadCommand(flags: LoadFlags): Promise<void> {
  const plan = await loadPlan(flags);
  await measure(plan, {
    percentiles: flags.metricPercentiles,
    goodput: flags.goodput,
    label: flags.label,
    latencies: ['ttft', 'tpot', 'itl', 'e2el', 'normalized'],
    showsProgress: flags.progress,
    output: flags.output,
    html: flags.html,
    keepsText: flags.keepText === true,
  });
}

/** The plan that the flags describe. @throws LoadError, CliError */
async function loadPlan(flags: LoadFlags): Promise<LoadPlan> {
  const row = await targets.load(flags.target);
  const sendsTokens = flags.tokenIds === true || !row.sendsText;
  if (sendsTokens && !row.sendsTokens)
    throw new CliError('CLI_VALUE_INVALID', `${flags.target} takes text only; leave out --token-ids`);
  const url = flags.url ?? row.usualUrl;
  const model =
    flags.model ?? (flags.target.startsWith('openai') ? await firstModel(url, headersOf(flags)) : '');
  return {
    target: {
      ...targetFlags(flags),
      kind: flags.target,
      url,
      path: flags.endpoint,
      model,
      streams: flags.stream,
      detokenizerFolder: detokenizerOf(flags),
    },
    workload: workloadOf(flags, sendsTokens),
    pace: paceOf(flags),
    sessions: flags.requests,
    durationMs: flags.duration === undefined ? undefined : flags.duration * 1000,
    warmupSessions: flags.warmup,
    workers: flags.workers,
    keepsText: flags.keepText === true || flags.tokenizer !== undefined,
  };
}

function detokenizerOf({ detokenize, target, tokenizer }: LoadFlags): string | undefined {
  if (!detokenize) return undefined;
  if (target !== 'briton')
    throw new CliError(
      'CLI_VALUE_INVALID',
      `${target} answers with text; --detokenize is for --target briton`,
    );
  if (tokenizer === undefined)
    throw new CliError('CLI_ARGUMENT_MISSING', '--detokenize needs --tokenizer FOLDER');
  return tokenizer;
}

function paceOf(flags: LoadFlags): PaceSpec {
  const arrivals = arrivalsOf(flags);
  if (arrivals) return { kind: 'open', arrivals, concurrencyMax: flags.concurrency };
  return { kind: 'closed', concurrency: Math.min(flags.concurrency ?? concurrencyDefault, flags.requests) };
}

function arrivalsOf(flags: LoadFlags): Arrivals | undefined {
  if (flags.replay !== undefined)
    return { kind: 'replay', offsetsMs: readArrivalTrace(flags.replay).map(({ atMs }) => atMs) };
  if (flags.requestRate === undefined) return undefined;
  const ratePerSecond = flags.requestRate;
  if (flags.arrivals === 'gamma') return { kind: 'gamma', ratePerSecond, burstiness: flags.burstiness };
  return { kind: flags.arrivals, ratePerSecond };
}

function workloadOf(flags: LoadFlags, sendsTokens: boolean): WorkloadSpec {
  const source = sourceOf(flags);
  const isMeasured = source.kind !== 'synthetic' && source.kind !== 'fixed';
  const output: LengthSpec | undefined =
    flags.outputTokens === undefined && isMeasured
      ? undefined
      : {
          distribution: 'normal',
          mean: flags.outputTokens ?? outputTokensDefault,
          spread: flags.outputStdev,
        };
  return {
    source,
    output,
    seed: flags.seed,
    sendsTokens,
    tokenizerFolder: flags.tokenizer,
    vocabularySize: flags.vocabularySize,
    models: flags.models,
    cancelShare: flags.cancelRate,
    salted: flags.salt ?? false,
  };
}

function sourceOf(flags: LoadFlags): WorkloadSource {
  if (flags.prompt.length > 0) return { kind: 'fixed', prompts: flags.prompt };
  if (flags.dataset !== undefined) {
    const { datasetFormat: kind, dataset: path } = flags;
    return kind === 'instruction' ? { kind, path, tokensPerWord } : { kind, path };
  }
  if (flags.replay !== undefined) return { kind: 'replay', path: flags.replay };
  return {
    kind: 'synthetic',
    input: { distribution: 'normal', mean: flags.inputTokens, spread: flags.inputStdev },
    prefixes: flags.sharedPrefixes,
    prefixTokens: flags.sharedPrefixTokens,
    turns: flags.turns,
  };
}

import { type Command, InvalidArgumentError } from 'commander';
import { LoadError } from '../../load/errors.ts';
import { type GoodputLimits, type LatencyName, latencyNames } from '../../load/statistics/metrics.ts';
import type { SamplingSpec, TargetSpec } from '../../load/target/target.ts';
import { integerOption, listOption, numberOption } from '../values.ts';

/** Flags that every measuring command has. */
export interface CommonFlags {
  apiKey?: string;
  header: string[];
  extraBody?: Record<string, unknown>;
  temperature?: number;
  topP?: number;
  topK?: number;
  ignoreEos?: boolean;
  requestTimeout: number;
  channels: number;
  workers: number;
  metricPercentiles: number[];
  goodput?: GoodputLimits;
  label: string;
  output?: string;
  html?: string;
  progress: boolean;
}

/** Adds the flags of {@link CommonFlags}. */
export function addCommonOptions(command: Command): Command {
  return command
    .option('--api-key <key>', 'bearer token (default: OPENAI_API_KEY)')
    .option('--header <name:value>', 'further request header; repeatable', listOption, [])
    .option('--extra-body <json>', 'further fields of the request body', jsonObjectOption)
    .option('--temperature <x>', 'sampling temperature', numberOption(0, 100))
    .option('--top-p <x>', 'nucleus share', numberOption(0, 1))
    .option('--top-k <n>', 'candidates', integerOption(0, 2 ** 24))
    .option('--ignore-eos', "go on after the model's end of text, so that every answer has its full length")
    .option(
      '--request-timeout <seconds>',
      'a request without an end by then failed; 0: never',
      numberOption(0, 86_400),
      0,
    )
    .option('--channels <n>', 'connections that streams are spread over (gRPC)', integerOption(1, 1024), 4)
    .option('--workers <n>', 'processes that make the load', integerOption(1, 64), 1)
    .option('--metric-percentiles <list>', 'percentiles to report, e.g. 50,90,99', percentilesOption, [99])
    .option('--goodput <limits...>', 'count requests within these, e.g. ttft:200 tpot:50 (ms)', goodputOption)
    .option('--label <text>', 'a name for the run, in its reports', '')
    .option('-o, --output <file>', 'write the result with its raw log as JSON; - is stdout')
    .option('--html <file>', 'write a report with plots, readable offline')
    .option('--no-progress', 'no progress line');
}

/** An object in JSON, for commander's option parsers. */
export function jsonObjectOption(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (value !== null && typeof value === 'object' && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch {
    // Said below, for both mistakes.
  }
  throw new InvalidArgumentError('It takes a JSON object.');
}

/** `50,90,99` for commander's option parsers. */
export function percentilesOption(text: string): number[] {
  const values = text.split(',').map(Number);
  if (values.every((value) => value > 0 && value <= 100)) return values;
  throw new InvalidArgumentError('It takes numbers above 0 up to 100 with commas between.');
}

/** `ttft:200`, one of several, for commander's option parsers. */
export function goodputOption(text: string, before: GoodputLimits = {}): GoodputLimits {
  const match = /^(ttft|tpot|e2el):(\d+(?:\.\d+)?)$/.exec(text);
  if (match?.[1] && match[2]) return { ...before, [match[1]]: Number(match[2]) };
  throw new InvalidArgumentError('It takes ttft:MS, tpot:MS or e2el:MS.');
}

/** `ttft,tpot,itl` for commander's option parsers. */
export function latenciesOption(text: string): LatencyName[] {
  return text.split(',').map((name) => {
    const known = latencyNames.find((one) => one === name.trim());
    if (known) return known;
    throw new InvalidArgumentError(`It takes a list of ${latencyNames.join(', ')}.`);
  });
}

/** The request headers that the flags ask for. @throws LoadError LOAD_OPTION_INVALID */
export function headersOf(flags: Pick<CommonFlags, 'apiKey' | 'header'>): Record<string, string> {
  const key = flags.apiKey ?? process.env.OPENAI_API_KEY;
  const headers: Record<string, string> = key ? { authorization: `Bearer ${key}` } : {};
  for (const header of flags.header) {
    const colon = header.indexOf(':');
    if (colon < 1) throw new LoadError('LOAD_OPTION_INVALID', `--header '${header}' is not name:value`);
    headers[header.slice(0, colon).trim().toLowerCase()] = header.slice(colon + 1).trim();
  }
  return headers;
}

/** What the flags say about sampling. */
export function samplingOf(flags: CommonFlags): SamplingSpec {
  const { temperature, topP, topK, ignoreEos = false } = flags;
  return { temperature, topP, topK, ignoreEos };
}

/** The parts of a target that come from common flags. */
export function targetFlags(flags: CommonFlags): Omit<TargetSpec, 'kind' | 'url' | 'model' | 'streams'> {
  return {
    headers: headersOf(flags),
    sampling: samplingOf(flags),
    extraBody: flags.extraBody ?? {},
    channels: flags.channels,
    timeoutMs: flags.requestTimeout * 1000,
  };
}

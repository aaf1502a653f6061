import type { RequestRecord } from '../record.ts';
import type { LoadPlan, LoadResult } from '../runner/plan.ts';
import { latenciesOf, latencyNames, type Metrics } from '../statistics/metrics.ts';
import type { Summary } from '../statistics/summary.ts';

/** What a result file says of how it was made, beside its numbers. */
export interface RunDescription {
  label: string;
  plan: LoadPlan;
  arrivals: string;
  workload: string;
  /** What tool and machine made the load. */
  tool: { name: string; version: string; node: string; cpu: string; cores: number };
}

/** Format of a result file; readers refuse other majors. */
export const resultFormat = 'nereid-load-result/1';

/**
 * One run as JSON. The upper fields are those of `vllm bench serve --save-result` (times in milliseconds, names unchanged), so that its
 * readers work; `nereid` holds what it has no field for, with the raw log of every request.
 */
export interface ResultFile {
  [field: string]: unknown;
  nereid: {
    format: string;
    description: RunDescription;
    metrics: Metrics;
    clientCpu: LoadResult['clientCpu'];
    isInterrupted: boolean;
    requests: readonly RequestRecord[];
  };
}

/** Puts a run into its JSON form. @param keepsText leave answers' texts in the log */
export function resultFile(
  description: RunDescription,
  result: LoadResult,
  metrics: Metrics,
  keepsText: boolean,
): ResultFile {
  const { plan, label } = description;
  const { pace, target } = plan;
  const requests = keepsText ? result.records : result.records.map(({ text: _text, ...record }) => record);
  const rate = pace.kind === 'open' && 'ratePerSecond' in pace.arrivals ? pace.arrivals.ratePerSecond : 'inf';
  return {
    date: dateText(new Date(result.startedWallMs)),
    endpoint_type: target.kind,
    backend: target.kind,
    label: label === '' ? null : label,
    model_id: target.model,
    tokenizer_id: plan.workload.tokenizerFolder ?? null,
    num_prompts: result.records.length,
    request_rate: rate,
    burstiness: pace.kind === 'open' && pace.arrivals.kind === 'gamma' ? pace.arrivals.burstiness : 1,
    max_concurrency: pace.kind === 'closed' ? pace.concurrency : (pace.concurrencyMax ?? null),
    duration: metrics.durationMs / 1000,
    completed: metrics.completed,
    failed: metrics.failed,
    total_input_tokens: metrics.inputTokens,
    total_output_tokens: metrics.outputTokens,
    request_throughput: metrics.requestThroughput,
    request_goodput: metrics.requestGoodput ?? null,
    output_throughput: metrics.outputThroughput,
    total_token_throughput: metrics.totalTokenThroughput,
    max_output_tokens_per_s: metrics.outputTokensPerSecondMax,
    max_concurrent_requests: metrics.concurrentRequestsMax,
    ...latencyFields(metrics),
    ...(keepsText ? detailedFields(result.records) : {}),
    nereid: {
      format: resultFormat,
      description,
      metrics,
      clientCpu: result.clientCpu,
      isInterrupted: result.isInterrupted,
      requests,
    },
  };
}

/** `mean_ttft_ms`, `median_ttft_ms`, `std_ttft_ms`, `p99_ttft_ms`, … */
function latencyFields({ latencies }: Metrics): Record<string, number> {
  const fields: Record<string, number> = {};
  for (const name of latencyNames) {
    const summary: Summary = latencies[name];
    fields[`mean_${name}_ms`] = summary.mean;
    fields[`median_${name}_ms`] = summary.median;
    fields[`std_${name}_ms`] = summary.std;
    for (const [p, value] of summary.percentiles) fields[`p${p}_${name}_ms`] = value;
  }
  return fields;
}

/** vLLM's `--save-detailed` lists, one entry a request. Seconds, as there. */
function detailedFields(records: readonly RequestRecord[]): Record<string, unknown> {
  const latencies = records.map(latenciesOf);
  return {
    input_lens: records.map(({ inputTokens }) => inputTokens),
    output_lens: records.map(({ outputTokens }) => outputTokens),
    ttfts: latencies.map(({ ttft = 0 }) => ttft / 1000),
    itls: latencies.map(({ itls }) => itls.map((gapMs) => gapMs / 1000)),
    generated_texts: records.map(({ text = '' }) => text),
    errors: records.map(({ error = '' }) => error),
  };
}

/** `20261121-180500`, UTC. */
function dateText(date: Date): string {
  return date.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
}

import type { RequestRecord } from '../../src/load/record.ts';

/**
 * The fields of `vllm bench serve --save-result` computed from a raw log by their definitions (docs/measuring.md), with none of the code
 * that is checked with it: the log is all that it takes.
 */
export function recomputed(
  log: readonly RequestRecord[],
  percentiles: readonly number[],
  goodput: { ttft: number; tpot: number },
): Record<string, number> {
  const good = log.filter((request) => request.outcome === 'completed');
  const seconds = Math.max(...log.map((request) => request.sentMs + request.endMs)) / 1000;
  const fields: Record<string, number> = {
    duration: seconds,
    completed: good.length,
    failed: log.filter((request) => request.outcome === 'failed').length,
    total_input_tokens: total(good.map((request) => request.inputTokens)),
    total_output_tokens: total(good.map((request) => request.outputTokens)),
  };
  fields.request_throughput = good.length / seconds;
  fields.output_throughput = fields.total_output_tokens! / seconds;
  fields.total_token_throughput = (fields.total_input_tokens! + fields.total_output_tokens!) / seconds;
  const ttft = good.map((request) => request.outputMs[0]!);
  const tpotOf = (request: RequestRecord): number =>
    (request.endMs - request.outputMs[0]!) / (request.outputTokens - 1);
  const several = good.filter((request) => request.outputTokens > 1);
  const within = good.filter(
    (request) =>
      request.outputMs[0]! <= goodput.ttft && (request.outputTokens < 2 || tpotOf(request) <= goodput.tpot),
  );
  fields.request_goodput = within.length / seconds;
  const latencies: Record<string, number[]> = {
    ttft,
    tpot: several.map(tpotOf),
    itl: good.flatMap(({ outputMs }) => outputMs.slice(1).map((atMs, i) => atMs - outputMs[i]!)),
    e2el: good.map((request) => request.endMs),
    normalized: good.map((request) => request.endMs / request.outputTokens),
  };
  for (const [name, values] of Object.entries(latencies)) {
    const mean = total(values) / values.length;
    fields[`mean_${name}_ms`] = mean;
    fields[`std_${name}_ms`] = Math.sqrt(total(values.map((value) => (value - mean) ** 2)) / values.length);
    fields[`median_${name}_ms`] = at(values, 50);
    for (const p of percentiles) fields[`p${p}_${name}_ms`] = at(values, p);
  }
  return fields;
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

/** numpy.percentile's default: linear between the neighbours. */
function at(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const place = (p / 100) * (sorted.length - 1);
  const below = sorted[Math.floor(place)]!;
  const above = sorted[Math.ceil(place)]!;
  return below * (1 - (place % 1)) + above * (place % 1);
}

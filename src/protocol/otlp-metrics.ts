import type { Registry } from 'prom-client';
import { attributesOf } from './otlp-attributes.ts';
import { otlpHeaders } from './otlp-target.ts';
import type { RequestLogger } from './request-log.ts';

/** OpenTelemetry's name of a histogram that `/metrics` has under vLLM's. */
const histograms: Readonly<Record<string, { name: string; unit: string; description: string }>> = {
  'vllm:e2e_request_latency_seconds': {
    name: 'gen_ai.server.request.duration',
    unit: 's',
    description: 'From arrival to the last token.',
  },
  'vllm:time_to_first_token_seconds': {
    name: 'gen_ai.server.time_to_first_token',
    unit: 's',
    description: 'From arrival to the first token.',
  },
  'vllm:request_time_per_output_token_seconds': {
    name: 'gen_ai.server.time_per_output_token',
    unit: 's',
    description: "A request's decode time over its tokens after the first.",
  },
};

/** How often metrics are sent unless `OTEL_METRIC_EXPORT_INTERVAL` says (OpenTelemetry's default), and at most. */
const intervalMsDefault = 60_000;
const intervalMsMin = 1_000;

/** OTLP's sums since a server began. */
const cumulative = 2;

/** Where metrics go, and how often. */
export interface MetricTarget {
  url: string;
  headers: Record<string, string>;
  intervalMs: number;
}

/** Undefined where no collector is configured for metrics. */
export function metricTarget(env: NodeJS.ProcessEnv): MetricTarget | undefined {
  const base = env.OTEL_EXPORTER_OTLP_ENDPOINT?.replace(/\/+$/, '');
  const url = env.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT ?? (base ? `${base}/v1/metrics` : undefined);
  if (!url || env.OTEL_SDK_DISABLED === 'true' || env.OTEL_METRICS_EXPORTER === 'none') return undefined;
  const asked = Number(env.OTEL_METRIC_EXPORT_INTERVAL ?? intervalMsDefault);
  const intervalMs = Number.isFinite(asked) ? Math.max(intervalMsMin, asked) : intervalMsDefault;
  return { url, headers: otlpHeaders(env, 'METRICS'), intervalMs };
}

/** Sends what OpenTelemetry's conventions for generative models name of a server's metrics, again and again. */
export class MetricsExport {
  readonly #registry: Registry;
  readonly #send: (metrics: readonly object[]) => Promise<void>;
  readonly #logger: RequestLogger;
  readonly #startNano: string;
  readonly #timer: NodeJS.Timeout;
  #sending: Promise<void> | undefined;

  /** @param nowMs wall clock */
  constructor(
    registry: Registry,
    options: {
      send: (metrics: readonly object[]) => Promise<void>;
      intervalMs: number;
      logger: RequestLogger;
      nowMs: () => number;
    },
  ) {
    this.#registry = registry;
    this.#send = options.send;
    this.#logger = options.logger;
    this.#startNano = nanoOf(options.nowMs());
    this.#timer = setInterval(() => void this.flush(options.nowMs()), options.intervalMs);
    this.#timer.unref();
  }

  /** Sends them now, unless the last time is still under way. */
  async flush(nowMs: number): Promise<void> {
    this.#sending ??= this.#sendAll(nanoOf(nowMs))
      .catch((error: Error) => {
        this.#logger.warn({ reason: error.message }, 'metrics could not be sent');
      })
      .finally(() => {
        this.#sending = undefined;
      });
    return this.#sending;
  }

  async close(nowMs: number): Promise<void> {
    clearInterval(this.#timer);
    await this.#sending;
    await this.flush(nowMs);
  }

  async #sendAll(timeUnixNano: string): Promise<void> {
    const metrics = [];
    for (const [own, { name, unit, description }] of Object.entries(histograms)) {
      const found = await this.#registry.getSingleMetric(own)?.get();
      const dataPoints = dataPointsOf((found?.values ?? []) as HistogramValue[]).map((point) => ({
        ...point,
        startTimeUnixNano: this.#startNano,
        timeUnixNano,
      }));
      const histogram = { aggregationTemporality: cumulative, dataPoints };
      if (dataPoints.length > 0) metrics.push({ name, unit, description, histogram });
    }
    if (metrics.length > 0) await this.#send(metrics);
  }
}

/** prom-client's: one for each bucket (cumulative), the sum and the count of each model. */
interface HistogramValue {
  metricName?: string;
  value: number;
  labels: { model_name?: string; le?: number | string };
}

function dataPointsOf(values: readonly HistogramValue[]): object[] {
  const byModel = new Map<string, HistogramValue[]>();
  for (const value of values) {
    const model = value.labels.model_name ?? '';
    const known = byModel.get(model);
    if (known) known.push(value);
    else byModel.set(model, [value]);
  }
  return [...byModel].map(([model, own]) => {
    const ending = (suffix: string) => own.filter(({ metricName = '' }) => metricName.endsWith(suffix));
    const buckets = ending('_bucket');
    const counts = buckets.map(({ value }, index) => value - (buckets[index - 1]?.value ?? 0));
    return {
      count: String(ending('_count')[0]?.value ?? 0),
      sum: ending('_sum')[0]?.value ?? 0,
      explicitBounds: buckets.map(({ labels }) => Number(labels.le)).filter(Number.isFinite),
      bucketCounts: counts.map(String),
      attributes: attributesOf({
        'gen_ai.operation.name': 'text_completion',
        'gen_ai.provider.name': 'nereid',
        'gen_ai.request.model': model,
        'gen_ai.response.model': model,
      }),
    };
  });
}

function nanoOf(ms: number): string {
  return String(BigInt(Math.round(ms * 1e6)));
}

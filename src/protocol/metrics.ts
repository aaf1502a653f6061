import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { definite } from '../base/errors.ts';
import type { GenerationObserver, GenerationRecord } from '../generation/generation.ts';
import type { EngineStatistics } from '../runtime/requests/statistics.ts';
import { engineMetrics } from './engine-metrics.ts';
import { MonotonicTotal } from './monotonic-total.ts';
import type { ServedModel } from './served-model.ts';

/**
 * Prometheus metrics in vLLM's vocabulary and under its prefix, so that dashboards, autoscalers and the Gateway API's inference
 * extension work unchanged; what vLLM has no name for is under `nereid:`. See docs/metrics.md.
 */

/** vLLM's bucket bounds, in seconds. */
const firstTokenBounds = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
  2560,
];
const interTokenBounds = [
  0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
/** Ours go on below vLLM's first bound (10 ms): small models on this hardware make a token in less than one. */
const interTokenBoundsBelow = [0.0005, 0.001, 0.0025, 0.005];
const requestBounds = [
  0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
];
const sequenceCountBounds = [1, 2, 5, 10, 20];

/** 1, 2, 5, 10, … up to `maximum`. */
function oneTwoFiveBounds(maximum: number): number[] {
  const bounds: number[] = [];
  for (let power = 1; power <= maximum; power *= 10) {
    for (const factor of [1, 2, 5]) if (factor * power <= maximum) bounds.push(factor * power);
  }
  return bounds;
}

/** prom-client samples the event loop by a timer; at its default of 10 ms that alone keeps an idle server at half a percent of a core. */
const eventLoopSampleMs = 250;

/** The event loop's statistics that prom-client takes from Node's histogram, and what of each is the sampling interval itself. */
const eventLoopStatistics: readonly (readonly [name: string, intervalSeconds: number])[] = [
  ...['min', 'max', 'mean', 'p50', 'p90', 'p99'].map((name) => [name, eventLoopSampleMs / 1000] as const),
  ['stddev', 0],
];

/** A histogram without samples has 2^63 ns as its least, and no mean. */
const eventLoopLagSecondsMax = 1e6;

/** What Node measures is the time between two samples; the lag is what exceeds the interval. */
function subtractSampling(registry: Registry): void {
  for (const [name, intervalSeconds] of eventLoopStatistics) {
    const gauge = registry.getSingleMetric(`nodejs_eventloop_lag_${name}_seconds`);
    if (!(gauge instanceof Gauge)) continue;
    const set = gauge.set.bind(gauge);
    gauge.set = (labels: object | number, seconds?: number): void => {
      const measured = typeof labels === 'number' ? labels : (seconds ?? 0);
      const isSampled = Number.isFinite(measured) && measured < eventLoopLagSecondsMax;
      set({}, isSampled ? Math.max(0, measured - intervalSeconds) : 0);
    };
  }
}

const modelLabel = 'model_name';

/** A gauge or counter that an engine keeps itself and that is read when Prometheus asks. */
interface EngineReading {
  name: string;
  help: string;
  type: 'gauge' | 'counter';
  value(statistics: EngineStatistics): number;
}

const readings: readonly EngineReading[] = [
  {
    name: 'vllm:num_requests_running',
    help: 'Sequences in the running batch.',
    type: 'gauge',
    value: (s) => s.runningSequences,
  },
  {
    name: 'vllm:num_requests_waiting',
    help: 'Requests waiting to be scheduled.',
    type: 'gauge',
    value: (s) => s.waitingRequests,
  },
  {
    name: 'vllm:kv_cache_usage_perc',
    help: 'KV cache in use; 1 is all of it.',
    type: 'gauge',
    value: (s) => (s.kvBytesMax > 0 ? s.kvBytesReserved / s.kvBytesMax : 0),
  },
  {
    name: 'vllm:prefix_cache_queries_total',
    help: 'Prompt tokens looked up in the prefix cache.',
    type: 'counter',
    value: (s) => s.prefixQueries,
  },
  {
    name: 'vllm:prefix_cache_hits_total',
    help: 'Prompt tokens found in the prefix cache.',
    type: 'counter',
    value: (s) => s.prefixHits,
  },
  {
    name: 'vllm:prompt_tokens_total',
    help: 'Prompt tokens processed.',
    type: 'counter',
    value: (s) => s.promptTokens,
  },
  {
    name: 'vllm:generation_tokens_total',
    help: 'Tokens generated.',
    type: 'counter',
    value: (s) => s.generatedTokens,
  },
  {
    name: 'vllm:spec_decode_num_drafts_total',
    help: 'Times that draft tokens of a sequence were verified.',
    type: 'counter',
    value: (s) => s.draftSteps,
  },
  {
    name: 'vllm:spec_decode_num_draft_tokens_total',
    help: 'Draft tokens that were verified.',
    type: 'counter',
    value: (s) => s.draftTokens,
  },
  {
    name: 'vllm:spec_decode_num_accepted_tokens_total',
    help: 'Draft tokens that held.',
    type: 'counter',
    value: (s) => s.acceptedDraftTokens,
  },
  {
    name: 'nereid:cached_prompt_tokens_total',
    help: "Prompt tokens taken from another request's KV cache.",
    type: 'counter',
    value: (s) => s.cachedPromptTokens,
  },
  { name: 'nereid:engine_steps_total', help: 'Engine steps.', type: 'counter', value: (s) => s.steps },
  {
    name: 'nereid:engine_compute_seconds_total',
    help: "Time in the device's compute call.",
    type: 'counter',
    value: (s) => s.computeNs / 1e9,
  },
  {
    name: 'nereid:engine_step_seconds_total',
    help: 'Time in engine steps, compute included.',
    type: 'counter',
    value: (s) => s.stepNs / 1e9,
  },
];

/** Metrics in Prometheus' text format. */
export interface Exposition {
  text: string;
  contentType: string;
}

/** What {@link ServerMetrics} covers. */
export interface ServerMetricsOptions {
  /** The models whose engines are read at scrape time. */
  models: readonly ServedModel[];
  /** Adds prom-client's `process_*` and `nodejs_*`. Default true. */
  processMetrics?: boolean;
  /** Where several processes serve one port: what {@link ServerMetrics.exposition} shows instead, unless it has nothing to say. */
  ofAll?: () => Promise<Exposition | undefined>;
}

/** All metrics of one front-end process. Front ends are added up with prom-client's `AggregatorRegistry` over {@link registry}'s JSON. */
export class ServerMetrics {
  readonly registry = new Registry();
  readonly #families: Families;
  readonly #observers = new Map<string, ModelMetrics>();

  readonly #ofAll: (() => Promise<Exposition | undefined>) | undefined;

  constructor({ models, processMetrics = true, ofAll }: ServerMetricsOptions) {
    this.#ofAll = ofAll;
    if (processMetrics) {
      collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: eventLoopSampleMs });
      subtractSampling(this.registry);
    }
    engineMetrics(this.registry, models);
    for (const reading of readings) this.#addReading(reading, models);
    const contextMax = Math.max(1024, ...models.map((model) => model.client.description.contextLength));
    this.#families = families(this.registry, contextMax);
    for (const model of models) this.#observers.set(model.name, new ModelMetrics(model.name, this.#families));
  }

  /** Where the generations of a model report. */
  observer(modelName: string): GenerationObserver {
    let found = this.#observers.get(modelName);
    if (!found) {
      found = new ModelMetrics(modelName, this.#families);
      this.#observers.set(modelName, found);
    }
    return found;
  }

  /** Counts an answered HTTP request. */
  countHttpRequest(route: string, method: string, status: number): void {
    this.#families.httpRequests.inc({ handler: route, method, status: String(status) });
  }

  /** The exposition text, and its content type. */
  async exposition(): Promise<Exposition> {
    const ofAll = await this.#ofAll?.();
    if (ofAll) return ofAll;
    return { text: await this.registry.metrics(), contentType: this.registry.contentType };
  }

  #addReading({ name, help, type, value }: EngineReading, models: readonly ServedModel[]): void {
    const registers = [this.registry];
    const labelNames = [modelLabel];
    // Every front end of an engine reports the same engine: added up, they would count it several times.
    const aggregator = 'max';
    const totals = models.map(() => new MonotonicTotal());
    const each = (report: (labels: { [modelLabel]: string }, reading: number) => void) => {
      for (const [index, model] of models.entries()) {
        // An engine that never started has nothing to report; its readiness is at /health/ready.
        if (!model.client.ready) continue;
        const reading = value(model.client.statistics());
        const total = type === 'counter' ? definite(totals[index], 'a total').of(reading) : reading;
        report({ [modelLabel]: model.name }, total);
      }
    };
    if (type === 'gauge') {
      new Gauge({
        name,
        help,
        labelNames,
        registers,
        aggregator,
        collect() {
          this.reset();
          each((labels, reading) => this.set(labels, reading));
        },
      });
      return;
    }
    new Counter({
      name,
      help,
      labelNames,
      registers,
      aggregator,
      collect() {
        this.reset();
        each((labels, reading) => this.inc(labels, reading));
      },
    });
  }
}

type Families = ReturnType<typeof families>;

function families(registry: Registry, contextMax: number) {
  const registers = [registry];
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name: `vllm:${name}`, help, buckets, labelNames: [modelLabel], registers });
  const tokenBounds = oneTwoFiveBounds(contextMax);
  return {
    firstToken: histogram(
      'time_to_first_token_seconds',
      'From arrival to the first token.',
      firstTokenBounds,
    ),
    interToken: histogram(
      'inter_token_latency_seconds',
      'Between two steps of a sequence that made tokens.',
      [...interTokenBoundsBelow, ...interTokenBounds],
    ),
    perOutputToken: histogram(
      'request_time_per_output_token_seconds',
      "A request's decode time over its tokens after the first.",
      [...interTokenBoundsBelow, ...interTokenBounds],
    ),
    endToEnd: histogram('e2e_request_latency_seconds', 'From arrival to the last token.', requestBounds),
    queued: histogram('request_queue_time_seconds', 'Waiting to be scheduled.', requestBounds),
    prefill: histogram(
      'request_prefill_time_seconds',
      'From the first step to the first token.',
      requestBounds,
    ),
    decode: histogram('request_decode_time_seconds', 'From the first token to the last.', requestBounds),
    inference: histogram('request_inference_time_seconds', 'Prefill and decode together.', requestBounds),
    promptTokens: histogram('request_prompt_tokens', 'Prompt tokens of a request.', tokenBounds),
    generationTokens: histogram('request_generation_tokens', 'Tokens generated for a request.', tokenBounds),
    parameterN: histogram('request_params_n', 'Sequences a request asked for.', sequenceCountBounds),
    parameterMaxTokens: histogram('request_params_max_tokens', "A request's token limit.", tokenBounds),
    success: new Counter({
      name: 'vllm:request_success_total',
      help: 'Finished requests by reason: stop, length, abort (cancelled or disconnected), error.',
      labelNames: [modelLabel, 'finished_reason'],
      registers,
    }),
    httpRequests: new Counter({
      name: 'http_requests_total',
      help: 'Answered HTTP requests.',
      labelNames: ['handler', 'method', 'status'],
      registers,
    }),
  };
}

/** The per-model side of {@link ServerMetrics}. Inter-token times, one a token, go to a histogram whose labels are bound once. */
class ModelMetrics implements GenerationObserver {
  readonly #labels: { [modelLabel]: string };
  readonly #families: Families;
  readonly #observeInterToken: (seconds: number) => void;

  constructor(modelName: string, all: Families) {
    this.#labels = { [modelLabel]: modelName };
    this.#families = all;
    const bound = all.interToken.labels(this.#labels);
    this.#observeInterToken = (seconds) => bound.observe(seconds);
    for (const finished_reason of ['stop', 'length', 'abort', 'error']) {
      all.success.inc({ ...this.#labels, finished_reason }, 0);
    }
  }

  firstToken(seconds: number): void {
    this.#families.firstToken.observe(this.#labels, seconds);
  }

  interToken(seconds: number): void {
    this.#observeInterToken(seconds);
  }

  finished(record: GenerationRecord): void {
    const { outcome, usage, queuedSeconds, prefillSeconds, decodeSeconds } = record;
    const labels = this.#labels;
    const to = this.#families;
    to.success.inc({ ...labels, finished_reason: outcome });
    to.endToEnd.observe(labels, record.endToEndSeconds);
    to.promptTokens.observe(labels, usage.promptTokens);
    to.generationTokens.observe(labels, usage.completionTokens);
    to.parameterN.observe(labels, record.sequences);
    to.parameterMaxTokens.observe(labels, record.maxTokens);
    if (queuedSeconds !== undefined) to.queued.observe(labels, queuedSeconds);
    if (prefillSeconds !== undefined) to.prefill.observe(labels, prefillSeconds);
    if (decodeSeconds === undefined) return;
    to.decode.observe(labels, decodeSeconds);
    if (prefillSeconds !== undefined) to.inference.observe(labels, prefillSeconds + decodeSeconds);
    const tokensAfterFirst = usage.completionTokens / record.sequences - 1;
    if (tokensAfterFirst > 0) to.perOutputToken.observe(labels, decodeSeconds / tokensAfterFirst);
  }
}

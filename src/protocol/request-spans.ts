import { randomBytes } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { type Attribute, attributesOf } from './otlp-attributes.ts';
import { otlpHeaders } from './otlp-target.ts';
import type { RequestLogger } from './request-log.ts';

/** Finished spans that wait to be sent; more are dropped, and counted in a warning. */
export const queuedSpansMax = 2_048;
/** How often they are sent, as OpenTelemetry's batch processors do. */
export const spanFlushMs = 5_000;

/** OTLP's JSON form of a span. */
export interface Span {
  traceId: string;
  spanId: string;
  /** W3C's `tracestate`, handed on as it came. */
  traceState?: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: Attribute[];
  status: { code: number; message?: string };
}

/** Sends spans; rejects where the collector does not take them. */
export type SpanSender = (spans: readonly Span[]) => Promise<void>;

/** Characters of a `tracestate` that are handed on: W3C asks for 512 at least. */
const stateLengthMax = 512;

/** Where spans go: OpenTelemetry's own environment variables. */
export interface SpanTarget {
  url: string;
  headers: Record<string, string>;
  serviceName: string;
}

/** Undefined where no collector is configured: nothing is traced then. */
export function spanTarget(env: NodeJS.ProcessEnv): SpanTarget | undefined {
  const base = env.OTEL_EXPORTER_OTLP_ENDPOINT?.replace(/\/+$/, '');
  const url = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? (base ? `${base}/v1/traces` : undefined);
  if (!url || env.OTEL_SDK_DISABLED === 'true' || env.OTEL_TRACES_EXPORTER === 'none') return undefined;
  const serviceName = env.OTEL_SERVICE_NAME ?? 'nereid';
  return { url, headers: otlpHeaders(env, 'TRACES'), serviceName };
}

/** The caller's trace of a W3C `traceparent`; undefined where it is malformed. */
export function parentOf(
  traceparent: unknown,
): { traceId: string; spanId: string; isSampled: boolean } | undefined {
  if (typeof traceparent !== 'string') return undefined;
  const [, version, traceId = '', spanId = '', flags = ''] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/.exec(traceparent) ?? [];
  if (!version || version === 'ff' || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, isSampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

/** One span a request, with those of its generations' phases below it, with OpenTelemetry's names for HTTP servers and for generative models. The texts are never in it. */
export class RequestSpans {
  readonly #send: SpanSender;
  readonly #logger: RequestLogger | undefined;
  readonly #timer: NodeJS.Timeout;
  #queue: Span[] = [];
  #dropped = 0;
  #sending: Promise<void> | undefined;

  constructor(send: SpanSender, logger?: RequestLogger) {
    this.#send = send;
    this.#logger = logger;
    this.#timer = setInterval(() => void this.flush(), spanFlushMs);
    this.#timer.unref();
  }

  /** @param endMs wall clock */
  ended(request: FastifyRequest, route: string, status: number, durationNs: number, endMs: number): void {
    const parent = parentOf(request.headers.traceparent);
    if (parent && !parent.isSampled) return;
    if (this.#queue.length >= queuedSpansMax) {
      this.#dropped++;
      return;
    }
    const { arrivedNs, traced } = request.exchange;
    const startNs = endMs * 1e6 - durationNs;
    const wallNs = (ns: number): string => String(BigInt(Math.round(startNs + (ns - arrivedNs))));
    const { tracestate } = request.headers;
    const span: Span = {
      traceId: parent?.traceId ?? randomBytes(16).toString('hex'),
      spanId: randomBytes(8).toString('hex'),
      ...(parent && typeof tracestate === 'string'
        ? { traceState: tracestate.slice(0, stateLengthMax) }
        : {}),
      ...(parent ? { parentSpanId: parent.spanId } : {}),
      name: nameOf(request, route),
      // A server's side of a call.
      kind: 2,
      startTimeUnixNano: wallNs(arrivedNs),
      endTimeUnixNano: wallNs(arrivedNs + durationNs),
      attributes: requestAttributes(request, route, status),
      status: status >= 500 ? { code: 2 } : { code: 0 },
    };
    this.#queue.push(span, ...(traced?.spans(span, wallNs) ?? []));
  }

  /** Sends what waits. A collector that does not answer costs those spans and a warning. */
  async flush(): Promise<void> {
    if (this.#sending || this.#queue.length === 0) return this.#sending;
    const spans = this.#queue;
    this.#queue = [];
    this.#sending = this.#send(spans)
      .catch((error: Error) => {
        this.#logger?.warn({ spans: spans.length, reason: error.message }, 'spans could not be sent');
      })
      .finally(() => {
        this.#sending = undefined;
      });
    if (this.#dropped > 0) {
      this.#logger?.warn({ spans: this.#dropped }, `spans were dropped: over ${queuedSpansMax} waited`);
      this.#dropped = 0;
    }
    return this.#sending;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#sending;
    await this.flush();
  }
}

/** Characters of a path and a client's name in a span. */
const pathLengthMax = 200;

const operations: Readonly<Record<string, string>> = {
  '/v1/chat/completions': 'chat',
  '/v1/responses': 'chat',
  '/v1/messages': 'chat',
  '/v1/completions': 'text_completion',
  '/v1/embeddings': 'embeddings',
};

function nameOf(request: FastifyRequest, route: string): string {
  const { model } = request.exchange.log;
  const operation = operations[route];
  return operation && model ? `${operation} ${model}` : `${request.method} ${route}`;
}

function requestAttributes(request: FastifyRequest, route: string, status: number): Attribute[] {
  const { log } = request.exchange;
  const error = log.error as { code?: string } | undefined;
  const finishReasons = typeof log.finish_reason === 'string' ? log.finish_reason.split(',') : undefined;
  const given: Record<string, unknown> = {
    'http.request.method': request.method,
    'http.route': route,
    'url.path': request.url.split('?', 1)[0]?.slice(0, pathLengthMax),
    'url.scheme': request.protocol,
    'user_agent.original': request.headers['user-agent']?.slice(0, pathLengthMax),
    'http.response.status_code': status,
    'nereid.request_id': request.id,
    'error.type': error?.code,
    'gen_ai.operation.name': log.model ? operations[route] : undefined,
    'gen_ai.provider.name': log.model ? 'nereid' : undefined,
    'gen_ai.request.model': log.model,
    'gen_ai.response.model': log.model,
    'gen_ai.response.id': log.id,
    'gen_ai.usage.input_tokens': log.prompt_tokens,
    'gen_ai.usage.output_tokens': log.completion_tokens,
    'gen_ai.response.finish_reasons': finishReasons,
    ...request.exchange.traced?.attributes,
  };
  return attributesOf(given);
}

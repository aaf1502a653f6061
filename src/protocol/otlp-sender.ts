import type { MetricTarget } from './otlp-metrics.ts';
import type { Span, SpanSender, SpanTarget } from './request-spans.ts';

/** Longest wait for a collector. */
const sendTimeoutMs = 10_000;

/** Who sends: OpenTelemetry's `service.name`, and the version. */
interface Sender {
  serviceName: string;
  version: string;
}

/** Sends spans as OTLP over HTTP, in its JSON form. */
export function otlpSender(target: SpanTarget, version: string): SpanSender {
  const sender = { serviceName: target.serviceName, version };
  return (spans: readonly Span[]) => {
    const scopeSpans = [{ scope: scopeOf(sender), spans }];
    return post(target, { resourceSpans: [{ resource: resourceOf(sender), scopeSpans }] });
  };
}

/** The same for metrics. */
export function otlpMetricSender(
  target: MetricTarget,
  sender: Sender,
): (metrics: readonly object[]) => Promise<void> {
  return (metrics) => {
    const scopeMetrics = [{ scope: scopeOf(sender), metrics }];
    return post(target, { resourceMetrics: [{ resource: resourceOf(sender), scopeMetrics }] });
  };
}

function scopeOf({ version }: Sender): object {
  return { name: 'nereid', version };
}

function resourceOf({ serviceName, version }: Sender): object {
  return {
    attributes: [
      { key: 'service.name', value: { stringValue: serviceName } },
      { key: 'service.version', value: { stringValue: version } },
      // Several front ends are several sources of the same sums.
      { key: 'service.instance.id', value: { stringValue: `${process.pid}` } },
    ],
  };
}

async function post(
  { url, headers }: { url: string; headers: Record<string, string> },
  body: object,
): Promise<void> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(sendTimeoutMs),
  });
  await response.arrayBuffer();
  if (!response.ok) throw new Error(`the collector answered ${response.status}`);
}

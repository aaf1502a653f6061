import { packageVersion } from '../../base/package-version.ts';
import type { ServerMetrics } from '../../protocol/metrics.ts';
import type { RequestLogger } from '../../protocol/request-log.ts';
import { RequestSpans, spanTarget } from '../../protocol/request-spans.ts';

/** Where requests are traced, if OpenTelemetry's environment says so; what sends is loaded only then. */
export function requestSpans(env: NodeJS.ProcessEnv, logger: RequestLogger): RequestSpans | undefined {
  const target = spanTarget(env);
  if (!target) return undefined;
  const sender = import('../../protocol/otlp-sender.ts').then(({ otlpSender }) =>
    otlpSender(target, packageVersion()),
  );
  return new RequestSpans(async (spans) => (await sender)(spans), logger);
}

/** Sends metrics to a collector, if the same environment names one. @returns what ends it */
export function exportMetrics(
  env: NodeJS.ProcessEnv,
  metrics: ServerMetrics,
  logger: RequestLogger,
): (() => Promise<void>) | undefined {
  // A look at the environment, so that a server without a collector loads none of it.
  if (!env.OTEL_EXPORTER_OTLP_ENDPOINT && !env.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT) return undefined;
  const serviceName = env.OTEL_SERVICE_NAME ?? 'nereid';
  const started = Promise.all([
    import('../../protocol/otlp-metrics.ts'),
    import('../../protocol/otlp-sender.ts'),
  ]).then(([{ MetricsExport, metricTarget }, { otlpMetricSender }]) => {
    const target = metricTarget(env);
    if (!target) return undefined;
    const send = otlpMetricSender(target, { serviceName, version: packageVersion() });
    const { intervalMs } = target;
    return new MetricsExport(metrics.registry, { send, intervalMs, logger, nowMs: Date.now });
  });
  return async () => (await started)?.close(Date.now());
}

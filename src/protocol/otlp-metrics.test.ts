import assert from 'node:assert/strict';
import { test } from 'node:test';
import { post } from '../../test/openai/inject.ts';
import { testServer } from '../../test/openai/test-server.ts';
import { MetricsExport, metricTarget } from './otlp-metrics.ts';

interface Sent {
  name: string;
  unit: string;
  histogram: {
    aggregationTemporality: number;
    dataPoints: {
      count: string;
      sum: number;
      explicitBounds: number[];
      bucketCounts: string[];
      startTimeUnixNano: string;
      timeUnixNano: string;
    }[];
  };
}

test('what OpenTelemetry names is sent under its names, with counts a bucket', async () => {
  const server = await testServer({ says: 'abc' });
  for (let i = 0; i < 3; i++) await post(server, '/v1/completions', { prompt: 'x', max_tokens: 4 });
  const sent: Sent[][] = [];
  const warnings: object[] = [];
  const logger = { info: () => {}, error: () => {}, warn: (fields: object) => void warnings.push(fields) };
  const exporting = new MetricsExport(server.metrics.registry, {
    send: async (metrics) => {
      if (sent.push(metrics as Sent[]) === 2) throw new Error('away');
    },
    intervalMs: 1e9,
    logger,
    nowMs: () => 1000,
  });
  await exporting.flush(2000);
  await exporting.close(3000);
  await server.close();
  const names = sent[0]?.map(({ name }) => name);
  assert.deepEqual(names, [
    'gen_ai.server.request.duration',
    'gen_ai.server.time_to_first_token',
    'gen_ai.server.time_per_output_token',
  ]);
  for (const { unit, histogram } of sent[0] ?? []) {
    const [point] = histogram.dataPoints;
    assert.deepEqual([unit, histogram.aggregationTemporality, point?.count], ['s', 2, '3']);
    assert.equal(point?.bucketCounts.length, (point?.explicitBounds.length ?? 0) + 1);
    assert.equal(
      point?.bucketCounts.map(Number).reduce((a, b) => a + b),
      3,
    );
    assert.deepEqual([point?.startTimeUnixNano, point?.timeUnixNano], ['1000000000', '2000000000']);
  }
  assert.deepEqual(warnings, [{ reason: 'away' }]);
});

test('metrics go where the environment says', () => {
  assert.equal(metricTarget({}), undefined);
  assert.equal(
    metricTarget({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://x', OTEL_METRICS_EXPORTER: 'none' }),
    undefined,
  );
  const both = {
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://x/',
    OTEL_EXPORTER_OTLP_METRICS_HEADERS: 'a=b%20c,d=100%',
  };
  assert.deepEqual(metricTarget(both), {
    url: 'http://x/v1/metrics',
    headers: { a: 'b c', d: '100%' },
    intervalMs: 60_000,
  });
  const own = { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'http://x/own', OTEL_METRIC_EXPORT_INTERVAL: '5' };
  assert.deepEqual([metricTarget(own)?.url, metricTarget(own)?.intervalMs], ['http://x/own', 1000]);
});

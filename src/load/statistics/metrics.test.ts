import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import type { RequestRecord } from '../record.ts';
import { computeMetrics, latenciesOf, meets } from './metrics.ts';
import { percentile, summarize } from './summary.ts';

function record(fields: Partial<RequestRecord>): RequestRecord {
  return {
    session: 0,
    turn: 0,
    worker: 0,
    sentMs: 0,
    outputMs: [10, 20, 40],
    endMs: 40,
    inputTokens: 5,
    outputTokens: 3,
    tokenCountSource: 'usage',
    outcome: 'completed',
    ...fields,
  };
}

test('percentiles interpolate as numpy does', () => {
  // numpy.percentile([1, 2, 4, 8], [0, 25, 50, 90, 99, 100])
  const values = [1, 2, 4, 8];
  assert.deepEqual(
    [0, 25, 50, 90, 99, 100].map((p) => Number(percentile(values, p).toFixed(6))),
    [1, 1.75, 3, 6.8, 7.88, 8],
  );
  assert.equal(summarize(values, []).std, Math.sqrt(7.1875));
  assert.deepEqual(summarize([], [99]).percentiles, [[99, 0]]);
});

test('both forms of time per output token, and the gaps', () => {
  const latencies = latenciesOf(record({}));
  assert.equal(latencies.ttft, 10);
  assert.equal(latencies.ttst, 10);
  assert.equal(latencies.tpot, 15, '(E2EL − TTFT) / (n − 1)');
  assert.equal(latencies.normalized, 40 / 3, 'E2EL / n');
  assert.deepEqual(latencies.itls, [10, 20]);
  const single = latenciesOf(record({ outputMs: [7], endMs: 7, outputTokens: 1 }));
  assert.equal(single.tpot, undefined);
  assert.equal(single.ttst, undefined);
});

test('goodput counts the requests within every limit', () => {
  assert.ok(meets(record({}), { ttft: 10, tpot: 15, e2el: 40 }));
  assert.ok(!meets(record({}), { ttft: 9 }));
  assert.ok(!meets(record({}), { ttft: 100, tpot: 14.9 }));
  assert.ok(meets(record({ outputTokens: 1 }), { tpot: 1 }), 'one token has no TPOT');
});

test('metrics agree with a plain recomputation from the raw log', () => {
  const random = new SeededRandom(3);
  const records = Array.from({ length: 300 }, (_, session) => {
    const outputMs: number[] = [];
    for (let at = random.next() * 50; outputMs.length < 2 + random.integer(20); at += random.next() * 30)
      outputMs.push(at);
    const outcome = random.next() < 0.1 ? ('failed' as const) : ('completed' as const);
    const error = outcome === 'failed' ? { error: 'HTTP 503: busy' } : {};
    const sentMs = session * 10;
    return record({
      session,
      sentMs,
      scheduledMs: sentMs - random.next(),
      outputMs,
      endMs: outputMs.at(-1)! + 1,
      outputTokens: outputMs.length,
      inputTokens: random.integer(100),
      outcome,
      ...error,
    });
  });
  const durationMs = Math.max(...records.map(({ sentMs, endMs }) => sentMs + endMs));
  const metrics = computeMetrics(records, durationMs, { percentiles: [90, 99], goodput: { ttft: 25 } });
  const good = records.filter(({ outcome }) => outcome === 'completed');
  const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const near = (actual: number, expected: number): void =>
    assert.ok(
      Math.abs(actual - expected) <= 1e-9 * Math.max(1, Math.abs(expected)),
      `${actual} ≠ ${expected}`,
    );
  const tokens = good.reduce((sum, { outputTokens }) => sum + outputTokens, 0);
  near(metrics.outputThroughput, (tokens * 1000) / durationMs);
  near(metrics.requestThroughput, (good.length * 1000) / durationMs);
  near(
    metrics.requestGoodput!,
    (good.filter(({ outputMs }) => outputMs[0]! <= 25).length * 1000) / durationMs,
  );
  near(metrics.latencies.ttft.mean, mean(good.map(({ outputMs }) => outputMs[0]!)));
  near(
    metrics.latencies.tpot.mean,
    mean(good.map(({ outputMs, endMs, outputTokens }) => (endMs - outputMs[0]!) / (outputTokens - 1))),
  );
  near(
    metrics.latencies.itl.mean,
    mean(good.flatMap(({ outputMs }) => outputMs.slice(1).map((at, i) => at - outputMs[i]!))),
  );
  near(metrics.arrivalError!.mean, mean(records.map(({ sentMs, scheduledMs }) => sentMs - scheduledMs!)));
  assert.equal(metrics.failed, records.length - good.length);
  assert.deepEqual(metrics.errors, [['HTTP 503: busy', metrics.failed]]);
  const inFlightAt = (at: number): number =>
    good.filter(({ sentMs, endMs }) => sentMs <= at && sentMs + endMs > at).length;
  assert.equal(metrics.concurrentRequestsMax, Math.max(...good.map(({ sentMs }) => inFlightAt(sentMs))));
});

test('the busiest second, and a run of nothing', () => {
  const metrics = computeMetrics(
    [record({ sentMs: 900, outputMs: [50, 150, 1200], endMs: 1200, outputTokens: 6 })],
    2100,
    { percentiles: [] },
  );
  assert.equal(metrics.outputTokensPerSecondMax, 2);
  const nothing = computeMetrics([], 0, { percentiles: [99] });
  assert.equal(nothing.outputThroughput, 0);
  assert.equal(nothing.latencies.ttft.mean, 0);
});

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Registry } from 'prom-client';
import { ManualClock } from '../base/clock.ts';
import { type ApiKey, ApiKeys, type KeyChange, keyDigest } from './authentication.ts';
import { createHttpServer } from './http-server.ts';
import { keyMetrics } from './key-metrics.ts';
import { errorResponse } from './openai/errors.ts';

const named = (name: string, limits: Partial<ApiKey> = {}): ApiKey => ({
  name,
  sha256: keyDigest(`secret-of-${name}`),
  ...limits,
});
const codeOf = (work: () => unknown): string => {
  try {
    work();
    return 'none';
  } catch (error) {
    return (error as { code: string }).code;
  }
};

describe('API keys', () => {
  test('only the right ones are let in', () => {
    const keys = new ApiKeys([named('anna'), named('bert')]);
    assert.equal(keys.check('secret-of-bert').name, 'bert');
    assert.equal(
      codeOf(() => keys.check('secret-of-carl')),
      'UNAUTHENTICATED',
    );
    assert.equal(
      codeOf(() => keys.check(undefined)),
      'UNAUTHENTICATED',
    );
  });

  test('requests a minute refill evenly, and save up a minute at most', () => {
    const clock = new ManualClock();
    const use = new ApiKeys([named('anna', { requestsPerMinute: 3 })], undefined, clock).check(
      'secret-of-anna',
    );
    const tries = (count: number): string[] => Array.from({ length: count }, () => codeOf(() => use.begin()));
    assert.deepEqual(tries(4), ['none', 'none', 'none', 'RATE_LIMITED']);
    clock.advanceMs(20_000);
    assert.deepEqual(tries(2), ['none', 'RATE_LIMITED']);
    clock.advanceMs(600_000);
    assert.deepEqual(tries(4), ['none', 'none', 'none', 'RATE_LIMITED']);
  });

  test('what other processes use of a key counts here, too, and they are told what is used here', () => {
    const limits = { requestsPerMinute: 10, tokensPerMinute: 100, concurrentRequests: 3 };
    const keys = new ApiKeys([named('anna', limits)], undefined, new ManualClock());
    const told: KeyChange[] = [];
    keys.onUse = (change) => told.push(change);
    const use = keys.check('secret-of-anna');
    keys.usedElsewhere([{ key: 'anna', requests: 2, tokens: 0, running: 2 }]);
    const end = use.begin();
    assert.throws(() => use.begin(), /concurrent requests/);
    keys.usedElsewhere([
      { key: 'anna', requests: 0, tokens: 0, running: -2 },
      { key: 'unknown', requests: 0, tokens: 0, running: 5 },
    ]);
    use.begin()();
    keys.usedElsewhere([{ key: 'anna', requests: 6, tokens: 0, running: 0 }]);
    assert.throws(() => use.begin(), /requests per minute/);
    keys.usedElsewhere([{ key: 'anna', requests: 0, tokens: 150, running: 0 }]);
    assert.throws(() => use.begin(), /tokens per minute/);
    end();
    use.spend(7);
    const sum = (field: 'requests' | 'tokens' | 'running'): number =>
      told.reduce((total, change) => total + change[field], 0);
    assert.deepEqual([sum('requests'), sum('tokens'), sum('running')], [2, 7, 0]);
  });

  test('tokens are counted afterwards: who went beyond waits until the minute has paid for it', () => {
    const clock = new ManualClock();
    const use = new ApiKeys([named('anna', { tokensPerMinute: 600 })], undefined, clock).check(
      'secret-of-anna',
    );
    use.begin()();
    use.spend(900);
    assert.throws(
      () => use.begin(),
      (error: { message: string; retryAfterSeconds: number }) => {
        assert.match(error.message, /'anna' is at its limit of 600 tokens per minute; try again in 31 s/);
        assert.equal(error.retryAfterSeconds, 31);
        return true;
      },
    );
    clock.advanceMs(31_000);
    use.begin();
  });

  test('requests at once, and what outlives a change of the keys', () => {
    const keys = new ApiKeys([named('anna', { concurrentRequests: 1 })]);
    const use = keys.check('secret-of-anna');
    const end = use.begin();
    assert.equal(
      codeOf(() => use.begin()),
      'RATE_LIMITED',
    );
    keys.replace([named('anna', { concurrentRequests: 1 }), named('bert')]);
    assert.equal(
      codeOf(() => keys.check('secret-of-anna').begin()),
      'RATE_LIMITED',
    );
    end();
    keys.check('secret-of-anna').begin();
    keys.replace([named('bert')]);
    assert.equal(
      codeOf(() => keys.check('secret-of-anna')),
      'UNAUTHENTICATED',
    );
  });

  test('over HTTP: each client’s way to say it, the status, Retry-After, and metrics by name', async () => {
    const registry = new Registry();
    const app = createHttpServer({ errorResponse });
    const keys = new ApiKeys([named('anna', { requestsPerMinute: 3 })], keyMetrics(registry));
    void app.register(async (api) => {
      keys.guard(api);
      api.get('/', async (request) => request.exchange.key?.name);
    });
    const key = 'secret-of-anna';
    for (const headers of [{ authorization: `Bearer ${key}` }, { 'x-api-key': key }, { 'api-key': key }]) {
      assert.equal((await app.inject({ url: '/', headers })).body, 'anna');
    }
    const refused = await app.inject({ url: '/', headers: { authorization: `Bearer ${key}` } });
    assert.equal(refused.statusCode, 429);
    assert.equal(refused.headers['retry-after'], '20');
    assert.equal(refused.json().error.code, 'rate_limit_exceeded');
    assert.equal((await app.inject({ url: '/' })).statusCode, 401);
    const metrics = await registry.metrics();
    assert.match(metrics, /nereid:key_requests_total\{key="anna"\} 3/);
    assert.match(metrics, /nereid:key_refused_total\{key="anna",limit="requests_per_minute"\} 1/);
  });
});

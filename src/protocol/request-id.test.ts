import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testServer } from '../../test/openai/test-server.ts';
import { requestIdLengthMax } from './request-id.ts';

test('an incoming x-request-id is adopted where it is printable and short; every response and log line has one', async () => {
  const lines: Record<string, unknown>[] = [];
  const log = (fields: object) => void lines.push(fields as Record<string, unknown>);
  const server = await testServer({}, { logger: { info: log, warn: log, error: log } });
  const ask = async (url: string, id?: string, payload?: object): Promise<string> => {
    const headers = id === undefined ? {} : { 'x-request-id': id };
    const method = payload ? 'POST' : 'GET';
    const response = await server.app.inject({ method, url, headers, ...(payload ? { payload } : {}) });
    return String(response.headers['x-request-id']);
  };
  assert.equal(await ask('/v1/models', 'abc-1'), 'abc-1');
  assert.equal(await ask('/nowhere', 'abc-2'), 'abc-2');
  const stream = { prompt: 'x', max_tokens: 1, stream: true };
  assert.equal(await ask('/v1/completions', 'abc-3', stream), 'abc-3');
  const made = [
    await ask('/v1/models'),
    await ask('/v1/models', 'x'.repeat(requestIdLengthMax + 1)),
    await ask('/v1/models', 'two words'),
  ];
  for (const id of made) assert.match(id, /^req-[0-9a-f]+$/);
  assert.equal(new Set(made).size, made.length);
  assert.deepEqual(
    lines.map((fields) => fields.request_id),
    ['abc-1', 'abc-2', 'abc-3', ...made],
  );
  await server.close();
});

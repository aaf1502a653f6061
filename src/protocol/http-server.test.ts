import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHttpServer, type ErrorWording, takeRawBodies, wordErrors } from './http-server.ts';

const worded =
  (who: string): ErrorWording =>
  (error) => ({ status: 404, headers: {}, body: { [who]: (error as Error).message.split(' ')[0] } });

test('two protocols share one app: each words the errors of its own paths and parses its own bodies', async () => {
  const app = createHttpServer({
    errorResponse: worded('first'),
    errorResponseOfPath: { '/v2': worded('second') },
  });
  app.post('/v1/echo', async (request) => request.body);
  void app.register(
    async (scope) => {
      wordErrors(scope, worded('second'));
      takeRawBodies(scope);
      scope.post('/echo', async (request) => ({ bytes: (request.body as Buffer).length }));
      scope.get('/fail', async () => {
        throw new Error('broken');
      });
    },
    { prefix: '/v2' },
  );
  const ask = async (method: 'GET' | 'POST', url: string, payload?: string, type?: string) => {
    const headers: Record<string, string> = type === undefined ? {} : { 'content-type': type };
    const response = await app.inject({ method, url, payload, headers });
    return response.json();
  };
  assert.deepEqual(await ask('GET', '/v1/nothing'), { first: 'there' });
  assert.deepEqual(await ask('GET', '/nothing'), { first: 'there' });
  assert.deepEqual(await ask('GET', '/v2/nothing'), { second: 'there' });
  assert.deepEqual(await ask('GET', '/v2/fail'), { second: 'broken' });
  assert.deepEqual(await ask('GET', '/v2/%ff'), { second: "'/v2/%ff'" });
  assert.deepEqual(await ask('POST', '/v1/echo', '{"a":1}', 'application/json'), { a: 1 });
  for (const type of [undefined, 'application/json', 'text/plain', 'no type at all']) {
    assert.deepEqual(await ask('POST', '/v2/echo', '{"a', type), { bytes: 3 }, type);
  }
  await app.close();
});

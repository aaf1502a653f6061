import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createHttpServer } from './http-server.ts';

function app(corsOrigins?: string[]) {
  const made = createHttpServer({
    errorResponse: () => ({ status: 404, headers: {}, body: {} }),
    corsOrigins,
  });
  made.post('/v1/things', async () => ({}));
  return made;
}

const origin = 'https://app.example';

describe('headers of every response', () => {
  test('security headers, on errors too', async () => {
    for (const url of ['/v1/things', '/nowhere']) {
      const { headers } = await app().inject({ method: 'POST', url, payload: {} });
      assert.equal(headers['x-content-type-options'], 'nosniff');
      assert.equal(headers['x-frame-options'], 'DENY');
      assert.equal(headers['cache-control'], 'no-store');
      assert.equal(headers['access-control-allow-origin'], undefined);
    }
  });

  test('a page of an allowed origin may read answers; others, and all where none is named, may not', async () => {
    const ask = async (from: string, origins?: string[]) => {
      const made = app(origins);
      return (
        await made.inject({ method: 'POST', url: '/v1/things', payload: {}, headers: { origin: from } })
      ).headers;
    };
    assert.equal((await ask(origin, [origin]))['access-control-allow-origin'], origin);
    assert.equal((await ask(origin, [origin])).vary, 'origin');
    assert.equal((await ask(origin, ['*']))['access-control-allow-origin'], '*');
    assert.equal((await ask('https://evil.example', [origin]))['access-control-allow-origin'], undefined);
    assert.equal((await ask(origin))['access-control-allow-origin'], undefined);
  });

  test('preflights, also with a content type and no body, are answered', async () => {
    const headers = {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,content-type',
      'content-type': 'application/json',
    };
    const preflight = await app([origin]).inject({ method: 'OPTIONS', url: '/v1/things', headers });
    assert.equal(preflight.statusCode, 204);
    assert.equal(preflight.headers['access-control-allow-origin'], origin);
    assert.match(String(preflight.headers['access-control-allow-methods']), /POST/);
    assert.equal(preflight.headers['access-control-allow-headers'], 'authorization,content-type');
    const plain = await app().inject({
      method: 'OPTIONS',
      url: '/v1/things',
      headers: { 'content-type': 'application/json' },
    });
    assert.deepEqual([plain.statusCode, plain.headers.allow], [204, 'POST, OPTIONS']);
  });
});

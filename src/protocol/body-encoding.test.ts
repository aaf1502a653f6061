import assert from 'node:assert/strict';
import { test } from 'node:test';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import { testServer } from '../../test/openai/test-server.ts';
import { decodeBody } from './body-encoding.ts';
import { ProtocolError } from './errors.ts';

const payload = JSON.stringify({ prompt: 'x', max_tokens: 1 });

test('gzip, deflate and brotli bodies are read; others are refused by name', async () => {
  const server = await testServer({}, { limits: { bodyBytesMax: 10_000 } });
  const send = async (body: Buffer, encoding: string) => {
    const headers = { 'content-type': 'application/json', 'content-encoding': encoding };
    const response = await server.app.inject({
      method: 'POST',
      url: '/v1/completions',
      payload: body,
      headers,
    });
    return [response.statusCode, response.json().error?.code];
  };
  assert.deepEqual(await send(gzipSync(payload), 'gzip'), [200, undefined]);
  assert.deepEqual(await send(gzipSync(payload), 'X-GZIP'), [200, undefined]);
  assert.deepEqual(await send(deflateSync(payload), 'deflate'), [200, undefined]);
  assert.deepEqual(await send(brotliCompressSync(payload), 'br'), [200, undefined]);
  assert.deepEqual(await send(Buffer.from(payload), 'identity'), [200, undefined]);
  assert.deepEqual(await send(Buffer.from(payload), 'zstd'), [415, 'content_encoding_unsupported']);
  assert.deepEqual(await send(Buffer.from(payload), 'gzip'), [400, 'body_invalid']);
  const bomb = gzipSync(Buffer.alloc(1_000_000, ' '));
  assert.ok(bomb.length < 10_000);
  assert.deepEqual(await send(bomb, 'gzip'), [413, 'body_too_large']);
  await server.close();
});

test('the limit is on the decoded bytes', async () => {
  const bytes = gzipSync(Buffer.alloc(100));
  assert.equal((await decodeBody(bytes, 'gzip', 100)).length, 100);
  await assert.rejects(
    decodeBody(bytes, 'gzip', 99),
    (error) => error instanceof ProtocolError && error.code === 'BODY_TOO_LARGE',
  );
});

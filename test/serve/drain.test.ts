import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { describe, test } from 'node:test';
import { type ServeProcess, startServe } from '../support/serve.ts';

/** What Ctrl-C does to a server that has work: it answers 503 with the reason on the same port until the last answer is out. */
function post(
  url: string,
  agent: Agent,
  fields: object,
): Promise<{ status: number; body: string; retryAfter: string }> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' };
    const sent = request(`${url}/v1/completions`, { method: 'POST', agent, headers }, (response) => {
      let body = '';
      response.on('data', (bytes) => {
        body += bytes;
      });
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          body,
          retryAfter: String(response.headers['retry-after']),
        }),
      );
    });
    sent.on('error', reject);
    sent.end(JSON.stringify({ prompt: 'A river is', temperature: 0, ignore_eos: true, ...fields }));
  });
}

async function drains(server: ServeProcess): Promise<void> {
  const running = post(server.url, new Agent(), { max_tokens: 120 });
  // A connection that stays open beside it.
  const idle = new Agent({ keepAlive: true, maxSockets: 1 });
  assert.equal((await post(server.url, idle, { max_tokens: 1 })).status, 200);
  const exit = once(server.child, 'exit');
  server.child.kill('SIGTERM');
  const deadline = Date.now() + 30_000;
  let refused = await post(server.url, idle, { max_tokens: 1 });
  while (refused.status === 200 && Date.now() < deadline)
    refused = await post(server.url, idle, { max_tokens: 1 });
  assert.deepEqual([refused.status, refused.retryAfter], [503, '1'], refused.body);
  assert.match(refused.body, /shutting down/);
  const ready = await fetch(`${server.url}/health/ready`);
  assert.equal(ready.status, 503);
  assert.match(await ready.text(), /shutting down/);
  const { status, body } = await running;
  assert.equal(status, 200, body);
  assert.equal(JSON.parse(body).usage.completion_tokens, 120);
  assert.deepEqual(await exit, [0, null], server.log());
}

describe('draining', () => {
  for (const frontEnds of ['1', '2']) {
    test(`${frontEnds} front end(s): listens and says why until the last answer is out`, async () => {
      const flags = [
        '--device',
        'null',
        '--device-option',
        'step-ms=50',
        '--front-ends',
        frontEnds,
        '--log-level',
        'warn',
      ];
      const server = await startServe('drain-test', flags);
      try {
        await drains(server);
      } finally {
        server.child.kill('SIGKILL');
      }
    });
  }
});

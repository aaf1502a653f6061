import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually, testServer } from '../../test/openai/test-server.ts';
import { RequestGate } from './request-gate.ts';

test('a closed gate turns requests away with the reason; those within finish, and it waits for them', async () => {
  const gate = new RequestGate();
  const server = await testServer({ says: 'abc', stepMs: 5 }, { gate });
  const { url } = await server.listen();
  const ask = (fields: object) =>
    fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'x', ...fields }),
    });
  const running = ask({ max_tokens: 40 });
  await eventually(() => gate.active === 1, 'it is within');
  assert.deepEqual(await (await fetch(`${url}/load`)).json(), { server_load: 1 });
  let isDrained = false;
  const closing = gate.close(60_000).then(() => {
    isDrained = true;
  });
  const refused = await ask({ max_tokens: 1 });
  assert.deepEqual(
    [refused.status, refused.headers.get('retry-after'), refused.headers.get('connection')],
    [503, '1', 'close'],
  );
  assert.match(((await refused.json()) as { error: { message: string } }).error.message, /shutting down/);
  assert.equal(isDrained, false);
  assert.equal((await running).status, 200);
  await closing;
  assert.equal(gate.active, 0);
  await server.close();
});

test('it waits no longer than it is told', async () => {
  const gate = new RequestGate();
  const server = await testServer({ says: 'abc', stepMs: 5 }, { gate });
  const { url } = await server.listen();
  const running = fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'x', max_tokens: 2000 }),
  });
  await eventually(() => gate.active === 1, 'it is within');
  await gate.close(20);
  assert.equal(gate.active, 1);
  await server.close();
  await running;
});

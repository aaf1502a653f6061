import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { type ServeProcess, startServe } from '../support/serve.ts';

/** Several engines and front ends as a user runs them: what goes where, and in how many events it comes back. */
const started: ServeProcess[] = [];
after(() => Promise.all(started.map((server) => server.stop())));

async function serve(...flags: string[]): Promise<ServeProcess> {
  const server = await startServe('routing-test', ['--device', 'null', '--log-level', 'error', ...flags]);
  started.push(server);
  return server;
}

function complete({ url }: ServeProcess, fields: object): Promise<Response> {
  return fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ temperature: 0, ignore_eos: true, max_tokens: 4, ...fields }),
  });
}

/** Prompt tokens of one text that came from a cache, for each of several requests one after the other. */
async function cachedTokens(server: ServeProcess, prompt: string): Promise<number[]> {
  const cached: number[] = [];
  for (let request = 0; request < 5; request++) {
    const { usage } = (await (await complete(server, { prompt })).json()) as {
      usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
    };
    assert.ok(usage.prompt_tokens > 100);
    cached.push(usage.prompt_tokens_details.cached_tokens);
  }
  return cached;
}

const text = Array.from({ length: 120 }, (_, index) => `word${index}`).join(' ');

for (const frontEnds of ['1', '2']) {
  test(`--engines 3 --front-ends ${frontEnds}: the same prompt goes where it is known; round-robin does not look`, async () => {
    const flags = ['--engines', '3', '--front-ends', frontEnds];
    const byPrefix = await cachedTokens(await serve(...flags), text);
    assert.equal(byPrefix[0], 0);
    for (const cached of byPrefix.slice(1)) assert.ok(cached > 90, byPrefix.join());
    if (frontEnds !== '1') return;
    const inTurn = await cachedTokens(await serve(...flags, '--routing', 'round-robin'), text);
    assert.deepEqual(inTurn.slice(0, 3), [0, 0, 0]);
    for (const cached of inTurn.slice(3)) assert.ok(cached > 90, inTurn.join());
  });
}

test('--stream-interval 8: the first token at once, then an event for eight of them; the text is the same', async () => {
  const server = await serve('--stream-interval', '8', '--device-option', 'step-ms=1');
  const whole = (await (await complete(server, { prompt: 'Once', max_tokens: 34 })).json()) as {
    choices: { text: string }[];
  };
  const response = await complete(server, {
    prompt: 'Once',
    max_tokens: 34,
    stream: true,
    return_token_ids: true,
  });
  const events = (await response.text())
    .split('\n\n')
    .filter((event) => event.startsWith('data: {'))
    .map((event) => JSON.parse(event.slice('data: '.length)).choices[0])
    // The first tells of the prompt.
    .slice(1);
  assert.deepEqual(
    events.map(({ token_ids }) => token_ids.length),
    [1, 8, 8, 8, 8, 1],
  );
  assert.equal(events.map((event) => event.text).join(''), whole.choices[0]?.text);
  assert.equal(events.at(-1).finish_reason, 'length');
});

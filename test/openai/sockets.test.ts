import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { eventually, promptOf, type TestServer, testServer } from './test-server.ts';

const says = 'abcdefghij';
const prompt = promptOf(says);

function request(body: object, path = '/v1/completions'): string {
  const text = JSON.stringify(body);
  return `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
}

interface RawClient {
  socket: Socket;
  /** What arrived so far. */
  received: () => string;
  closed: () => boolean;
}

function rawClient(port: number): RawClient {
  const socket = connect(port, '127.0.0.1');
  let received = '';
  let closed = false;
  socket.on('data', (chunk) => {
    received += chunk.toString();
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    closed = true;
  });
  return { socket, received: () => received, closed: () => closed };
}

async function withServer(
  options: Parameters<typeof testServer>,
  use: (server: TestServer, port: number) => Promise<void>,
): Promise<void> {
  const server = await testServer(...options);
  const { port } = await server.listen();
  try {
    await use(server, port);
  } finally {
    await server.close();
  }
}

/** The server still answers a fresh client. */
async function assertAlive(port: number): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${port}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt, max_tokens: 3, temperature: 0 }),
  });
  assert.equal(response.status, 200);
  const body = (await response.json()) as { choices: { text: string }[] };
  assert.equal(body.choices[0]?.text, 'abc');
}

describe('sockets', () => {
  test('a client that leaves in the middle of a stream stops its engine work within few steps', () =>
    withServer([{ says, stepMs: 2 }], async (server, port) => {
      const client = rawClient(port);
      client.socket.write(request({ prompt, max_tokens: 2000, stream: true, temperature: 0 }));
      await eventually(() => client.received().split('data: ').length > 5, 'events arrive');
      client.socket.resetAndDestroy();
      await eventually(() => server.engine.statistics().runningSequences === 0, 'the engine stops');
      // Far from the 2,000 asked for; the exact number is a matter of the loop's turns.
      assert.ok(server.engine.statistics().generatedTokens < 200);
      await assertAlive(port);
    }));

  test('a client that leaves while it is queued never runs', () =>
    withServer([{ says, stepMs: 2, slots: 1 }], async (server, port) => {
      const first = rawClient(port);
      first.socket.write(request({ prompt, max_tokens: 300, stream: true }));
      await eventually(() => server.engine.statistics().runningSequences === 1, 'the first runs');
      const second = rawClient(port);
      second.socket.write(request({ prompt, max_tokens: 300 }));
      await eventually(() => server.engine.statistics().waitingRequests === 1, 'the second waits');
      second.socket.destroy();
      await eventually(() => server.engine.statistics().waitingRequests === 0, 'the second left');
      first.socket.destroy();
    }));

  test('a client that half-closes still gets its answers, whole and streamed', () =>
    withServer([{ says, stepMs: 2 }], async (_server, port) => {
      for (const stream of [false, true]) {
        const client = rawClient(port);
        client.socket.end(request({ prompt, max_tokens: 10, stream, temperature: 0 }));
        await eventually(client.closed, 'the connection ends');
        if (stream) assert.match(client.received(), /data: \[DONE\]/);
        // `102 Processing` may come first: how the server finds out whether the client is still there.
        else assert.match(client.received(), /HTTP\/1\.1 200 OK.*"text":"abcdefghij"/s);
      }
    }));

  test('a client that ends its connection and leaves has its request cancelled, also before the first token', () =>
    withServer([{ says, stepMs: 2 }], async (server, port) => {
      const client = rawClient(port);
      client.socket.write(request({ prompt, max_tokens: 2000 }));
      await eventually(() => server.engine.statistics().runningSequences === 1, 'it runs');
      // Nothing is unread, so this sends no reset: to the server it looks like a half-close.
      client.socket.destroy();
      await eventually(() => server.engine.statistics().runningSequences === 0, 'the engine stops');
      assert.ok(server.engine.statistics().generatedTokens < 1_900);
      await assertAlive(port);
    }));

  test('pipelined requests die with their connection, also those whose turn has not come', () =>
    withServer([{ says, stepMs: 2, slots: 1 }], async (server, port) => {
      const client = rawClient(port);
      client.socket.write(request({ prompt, max_tokens: 2000 }).repeat(40));
      await eventually(() => server.engine.statistics().waitingRequests === 39, 'they wait');
      client.socket.resetAndDestroy();
      await eventually(() => server.engine.statistics().waitingRequests === 0, 'they left');
      await eventually(() => server.engine.statistics().runningSequences === 0, 'the engine stops');
      const { text } = await server.metrics.exposition();
      assert.match(text, /status="499"\} 40/);
      await assertAlive(port);
    }));

  test('more pipelined requests than the limit are refused one by one, the others answered', () =>
    withServer([{ says, stepMs: 1 }, { limits: { pipelinedRequestsMax: 4 } }], async (_server, port) => {
      const client = rawClient(port);
      client.socket.write(request({ prompt, max_tokens: 20, temperature: 0 }).repeat(7));
      await eventually(() => client.received().split('HTTP/1.1 ').length === 8, 'seven answers');
      assert.equal(client.received().split('HTTP/1.1 200').length - 1, 4);
      assert.equal(client.received().split('pipeline_full').length - 1, 3);
      client.socket.destroy();
    }));

  test('a reader that does not read is cut off at its buffer limit; others are not disturbed', () =>
    withServer(
      [{ says, contextLength: 100_000 }, { limits: { streamBufferBytesMax: 64 * 1024 } }],
      async (server, port) => {
        const client = rawClient(port);
        client.socket.pause();
        client.socket.write(request({ prompt, max_tokens: 90_000, stream: true, temperature: 0 }));
        await eventually(() => server.engine.statistics().runningSequences === 1, 'it runs');
        await eventually(() => server.engine.statistics().runningSequences === 0, 'it was cut off');
        assert.ok(server.engine.statistics().generatedTokens < 90_000);
        const { text } = await server.metrics.exposition();
        assert.match(text, /finished_reason="abort"\} 1/);
        await assertAlive(port);
        client.socket.destroy();
      },
    ));

  test('keep-alive and pipelining: answers come in order, whole and streamed mixed', () =>
    withServer([{ says }], async (_server, port) => {
      const client = rawClient(port);
      const streamed = request({ prompt, max_tokens: 2, stream: true, temperature: 0 });
      const whole = request({ prompt, max_tokens: 3, temperature: 0 });
      client.socket.write(streamed + whole + streamed + whole);
      await eventually(() => client.received().split('HTTP/1.1 200').length === 5, 'four answers');
      await eventually(() => client.received().split('"abc"').length === 3, 'all whole');
      const kinds = client.received().match(/\[DONE\]|"text":"abc"/g);
      assert.deepEqual(kinds, ['[DONE]', '"text":"abc"', '[DONE]', '"text":"abc"']);
      // Later on the same connection.
      client.socket.write(whole);
      await eventually(() => client.received().split('"abc"').length === 4, 'one more');
      client.socket.destroy();
    }));

  test('HTTP/1.0 streams end with the connection', () =>
    withServer([{ says }], async (_server, port) => {
      const client = rawClient(port);
      const body = request({ prompt, max_tokens: 4, stream: true, temperature: 0 });
      client.socket.write(body.replace('HTTP/1.1', 'HTTP/1.0'));
      await eventually(client.closed, 'it closes');
      assert.match(client.received(), /\r\n\r\ndata: \{/);
      assert.match(client.received(), /data: \[DONE\]\n\n$/);
      assert.doesNotMatch(client.received(), /transfer-encoding/i);
    }));

  test('garbage, also behind a request, huge headers and an absurd length are refused and hung up on', () =>
    withServer([{ says }], async (_server, port) => {
      const refusals: [string, RegExp][] = [
        ['GARBAGE\r\n\r\n', /^HTTP\/1.1 400 .*request_malformed/s],
        [
          `GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`,
          /^HTTP\/1.1 431 .*headers_too_large/s,
        ],
        [`${request({ prompt, max_tokens: 1 })}\x00\x01garbage\r\n\r\n`, /.*/s],
        [
          'POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n',
          /^HTTP\/1.1 413 /,
        ],
        ['POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n', /^HTTP\/1.1 400 /],
        [
          'POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\nzz\r\n',
          /400/,
        ],
      ];
      for (const [bytes, expected] of refusals) {
        const client = rawClient(port);
        client.socket.write(bytes);
        await eventually(client.closed, `hung up on ${JSON.stringify(bytes.slice(0, 40))}`);
        assert.match(client.received(), expected);
      }
      await assertAlive(port);
    }));

  test('10,000 queued requests all get an answer, none is lost, one more than the limit is refused', () =>
    withServer([{ says, slots: 32, queuedRequestsMax: 10_000 }], async (server, port) => {
      // 500 prompts a request keep this within one process's sockets; to the engine each is a request.
      const count = 20;
      const body = JSON.stringify({ prompt: Array(500).fill(prompt), max_tokens: 2, temperature: 0 });
      const post = () =>
        fetch(`http://127.0.0.1:${port}/v1/completions`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body,
        });
      const answers = await Promise.all(Array.from({ length: count }, post));
      const lost: number[] = [];
      let choices = 0;
      for (const answer of answers) {
        if (answer.status !== 200) lost.push(answer.status);
        else choices += ((await answer.json()) as { choices: unknown[] }).choices.length;
      }
      // A batch that no longer fitted was refused as a whole.
      assert.ok(
        lost.every((status) => status === 429),
        String(lost),
      );
      assert.equal(choices, (count - lost.length) * 500);
      assert.ok(choices > 0);
      assert.equal(server.engine.statistics().waitingRequests, 0);
      await assertAlive(port);
    }));

  test('clients that are slow to send are told and hung up on: headers, body, and nothing at all', () =>
    withServer(
      [{ says }, { limits: { headersTimeoutMs: 50, bodyTimeoutMs: 100, keepAliveTimeoutMs: 50 } }],
      async (_server, port) => {
        const headers = rawClient(port);
        headers.socket.write('POST /v1/completions HTTP/1.1\r\nhost: x\r\n');
        const body = rawClient(port);
        body.socket.write(request({ prompt, max_tokens: 3 }).slice(0, -5));
        const idle = rawClient(port);
        idle.socket.write(request({ prompt, max_tokens: 3, temperature: 0 }));
        for (const client of [headers, body, idle]) {
          await eventually(client.closed, 'hung up');
        }
        assert.match(headers.received(), /^HTTP\/1.1 408 .*request_too_slow/s);
        assert.match(body.received(), /^HTTP\/1.1 408 .*request_too_slow/s);
        assert.match(idle.received(), /"text":"abc"/);
      },
    ));

  test('when sockets run out, the one that asked for nothing the longest makes room', () =>
    withServer([{ says, stepMs: 1 }, { limits: { socketsMax: 3 } }], async (server, port) => {
      const busy = rawClient(port);
      busy.socket.write(request({ prompt, max_tokens: 1500, stream: true }));
      await eventually(() => server.engine.statistics().runningSequences === 1, 'it runs');
      const oldest = rawClient(port);
      oldest.socket.write('POST /v1/completions HTTP/1.1\r\n');
      await eventually(() => !oldest.socket.connecting, 'connected');
      const slowBody = rawClient(port);
      slowBody.socket.write(request({ prompt }).slice(0, -5));
      await eventually(() => !slowBody.socket.connecting, 'connected');
      await assertAlive(port);
      await eventually(oldest.closed, 'turned away');
      for (let i = 0; i < 5; i++) await assertAlive(port);
      await eventually(slowBody.closed, 'turned away');
      assert.equal(busy.closed(), false);
      busy.socket.destroy();
    }));

  test('a client that ignores that it was hung up on loses its socket', () =>
    withServer([{ says }, { limits: { headersTimeoutMs: 50 } }], async (server, port) => {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      socket.on('error', () => {});
      socket.resume();
      socket.write('POST /v1/completions HTTP/1.1\r\n');
      const open = () =>
        new Promise<number>((resolve) => server.app.server.getConnections((_, n) => resolve(n)));
      let ended = false;
      socket.on('end', () => {
        ended = true;
      });
      await eventually(() => ended, 'hung up');
      while ((await open()) > 0) await new Promise((resolve) => setTimeout(resolve, 20));
      socket.destroy();
    }));
});

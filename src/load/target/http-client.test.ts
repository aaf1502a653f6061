import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { packageRoot } from '../../base/entry.ts';
import { HttpClient } from './http-client.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** A server that answers each request's head as scripted, with the connection's and the request's number on it. */
async function listen(
  answer: (socket: Socket, connection: number, request: number) => void,
): Promise<{ url: string; connections: () => number }> {
  let connections = 0;
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    const connection = connections++;
    let requests = 0;
    sockets.add(socket);
    socket.on('error', () => {});
    // Requests of these tests come in one piece.
    socket.on('data', () => answer(socket, connection, requests++));
  }).listen(0, '127.0.0.1');
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, connections: () => connections };
}

interface Outcome {
  data: string[];
  reason?: string;
}

function post(client: HttpClient): Promise<Outcome> {
  return new Promise((resolve) => {
    const data: string[] = [];
    client.post('/v1/x', '{}', {
      data: (_atMs, text) => data.push(text),
      end: () => resolve({ data }),
      fail: (_atMs, reason) => resolve({ data, reason }),
    });
  });
}

function client(url: string, headers: Record<string, string> = {}): HttpClient {
  const made = new HttpClient(url, headers, 0);
  closers.push(() => made.close());
  return made;
}

const whole = (body: string, more = ''): string =>
  `HTTP/1.1 200 OK\r\n${more}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

test('a connection carries one request after the other', async () => {
  const server = await listen((socket, connection, request) =>
    socket.write(whole(`${connection}/${request}`)),
  );
  const http = client(server.url);
  assert.deepEqual((await post(http)).data, ['0/0']);
  assert.deepEqual((await post(http)).data, ['0/1']);
  assert.equal(server.connections(), 1);
});

test('a kept connection that the server closed unanswered: the request goes out again on a new one', async () => {
  const server = await listen((socket, connection, request) => {
    if (connection === 0 && request === 1) socket.destroy();
    else socket.write(whole(`${connection}/${request}`));
  });
  const http = client(server.url);
  await post(http);
  assert.deepEqual(await post(http), { data: ['1/0'] });
});

test('a new connection that closes unanswered, or any in the middle of an answer, is a failure', async () => {
  const silent = await listen((socket) => socket.destroy());
  assert.match((await post(client(silent.url))).reason ?? '', /closed the connection|ECONNRESET/);
  assert.equal(silent.connections(), 1);
  const half = await listen((socket, _connection, request) => {
    if (request === 0) socket.write(whole('first'));
    else socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal');
  });
  const http = client(half.url);
  await post(http);
  assert.match((await post(http)).reason ?? '', /in the middle of the answer/);
  assert.equal(half.connections(), 1);
});

test('connections that the server will not keep are not used again', async () => {
  for (const header of ['Connection: close\r\n', 'Keep-Alive: timeout=1\r\n']) {
    const server = await listen((socket) => socket.write(whole('x', header)));
    const http = client(server.url);
    await post(http);
    await post(http);
    assert.equal(server.connections(), 2, header);
  }
});

test('an answer that ends with its connection', async () => {
  const server = await listen((socket) =>
    socket.end('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\ndata: b\n\n'),
  );
  assert.deepEqual(await post(client(server.url)), { data: ['a', 'b'] });
});

test('over TLS', async () => {
  const file = (name: string): Buffer => readFileSync(join(packageRoot, 'test/support/tls', name));
  const server = createHttpsServer({ key: file('server-key.pem'), cert: file('server.pem') }, (_, response) =>
    response.end('safe'),
  ).listen(0, '127.0.0.1');
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const outcome = await post(client(`https://localhost:${port}`));
  // Nobody has signed it: the connection is refused by us, with a reason that says so.
  assert.match(outcome.reason ?? '', /certificate|self.signed|issuer/i);
});

test('headers and URLs that are none', () => {
  assert.throws(() => client('http://x', { 'a b': 'c' }), { code: 'LOAD_OPTION_INVALID' });
  assert.throws(() => client('http://x', { a: 'c\r\nd: e' }), { code: 'LOAD_OPTION_INVALID' });
  assert.throws(() => client('ftp://x'), { code: 'LOAD_OPTION_INVALID' });
});

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import type { sendUnaryData } from '@grpc/grpc-js';
import { type ClientBounds, type ClientLimits, clientBounds } from './client-bounds.ts';
import { startGrpcServer } from './grpc-server.ts';
import { encodedCodec, type GrpcService } from './grpc-service.ts';

const megabyte = 1024 * 1024;
const path = '/inference.GRPCInferenceService/';

/** `ModelInfer` answers with so many megabytes as the request's first byte says; `ServerLive` with nothing. */
const service: GrpcService = {
  name: 'inference.GRPCInferenceService',
  protoFile: 'grpc_service.proto',
  methods: [
    {
      name: 'ModelInfer',
      request: encodedCodec as never,
      response: encodedCodec as never,
      handler: (call: { request: Buffer }, done: sendUnaryData<Buffer>) =>
        done(null, Buffer.alloc((call.request[0] ?? 0) * megabyte)),
    },
  ],
};

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(limits: ClientLimits): Promise<{ port: number; bounds: ClientBounds }> {
  const bounds = clientBounds(limits);
  const readiness = () => ({ '': true });
  const server = await startGrpcServer({
    host: '127.0.0.1',
    port: 0,
    readiness,
    services: [service],
    bounds,
  });
  closers.push(() => server.close(0));
  return { port: server.port, bounds };
}

function open(port: number): ClientHttp2Session {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on('error', () => {});
  closers.push(() => session.destroy());
  return session;
}

/** A call over bare HTTP/2: it reads nothing unless told to. */
function begin(session: ClientHttp2Session, method: string, headers: object = {}): ClientHttp2Stream {
  const stream = session.request({
    ':method': 'POST',
    ':path': path + method,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  });
  stream.on('error', () => {});
  return stream;
}

function framed(message: Uint8Array, isPacked = false): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = isPacked ? 1 : 0;
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** Reads the whole answer. @returns its bytes and gRPC status */
async function answerOf(
  stream: ClientHttp2Stream,
): Promise<{ bytes: number; status: string; message: string }> {
  let bytes = 0;
  let trailers: Record<string, unknown> = {};
  stream.on('response', (headers) => {
    trailers = headers;
  });
  stream.on('trailers', (given) => {
    trailers = given;
  });
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  await new Promise<void>((resolve) => stream.once('close', () => resolve()));
  return { bytes, status: String(trailers['grpc-status']), message: String(trailers['grpc-message']) };
}

/** What an honest client asks: a megabyte. */
async function isServed(port: number): Promise<boolean> {
  const session = open(port);
  const stream = begin(session, 'ModelInfer');
  stream.end(framed(Uint8Array.of(1)));
  const { bytes, status } = await answerOf(stream);
  session.destroy();
  return bytes === megabyte + 5 && status === '0';
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await sleep(10);
  }
}

describe('what clients of gRPC may take', () => {
  test('answers that nobody reads are bounded over all calls; those who read are served', async () => {
    const { port, bounds } = await start({ unreadAnswerBytesMax: 32 * megabyte });
    const reset: ClientHttp2Stream[] = [];
    for (let client = 0; client < 4; client++) {
      const session = open(port);
      for (let call = 0; call < 4; call++) {
        const stream = begin(session, 'ModelInfer');
        stream.once('close', () => reset.push(stream));
        stream.end(framed(Uint8Array.of(20)));
        stream.pause();
      }
    }
    await until(() => bounds.answers.cuts >= 14, 'all but what fits are cut');
    await until(() => bounds.answers.bytes <= 32 * megabyte, 'the rest fits');
    await until(() => reset.length >= 14, 'their clients are told');
    assert.equal(await isServed(port), true);
  });

  test('an answer of which nothing is read for too long is cut off', async () => {
    const { port, bounds } = await start({ answerStallTimeoutMs: 1_000 });
    const stream = begin(open(port), 'ModelInfer');
    stream.end(framed(Uint8Array.of(20)));
    stream.pause();
    await new Promise<void>((resolve) => stream.once('close', () => resolve()));
    assert.equal(bounds.answers.cuts, 1);
    assert.equal(await isServed(port), true);
  });

  test('a large answer is handed over to who reads it slowly', async () => {
    const { port, bounds } = await start({ answerStallTimeoutMs: 20_000 });
    const stream = begin(open(port), 'ModelInfer');
    stream.end(framed(Uint8Array.of(8)));
    const whole = answerOf(stream);
    for (let i = 0; i < 20; i++) {
      stream.pause();
      await sleep(100);
      stream.resume();
      await sleep(5);
    }
    assert.deepEqual(await whole, { bytes: 8 * megabyte + 5, status: '0', message: 'OK' });
    assert.equal(bounds.answers.cuts, 0);
  });

  test('messages of which only a part comes are given up; large ones take turns and arrive', async () => {
    const { port } = await start({ uploadBytesMax: 64 * megabyte, uploadStallTimeoutMs: 20_000 });
    const stalled = Array.from({ length: 6 }, () => {
      const stream = begin(open(port), 'ModelInfer');
      stream.write(framed(Buffer.alloc(20 * megabyte)).subarray(0, 3 * megabyte));
      return new Promise<void>((resolve) => stream.once('close', () => resolve()));
    });
    const honest = Array.from({ length: 4 }, async () => {
      const stream = begin(open(port), 'ModelInfer');
      stream.end(framed(Buffer.alloc(10 * megabyte)));
      return (await answerOf(stream)).status;
    });
    assert.deepEqual(await Promise.all(honest), ['0', '0', '0', '0']);
    await Promise.all(stalled);
    assert.equal(await isServed(port), true);
  });

  test('packed messages arrive; one that comes to too much is refused', async () => {
    const { port } = await start({});
    const ask = async (message: Buffer, encoding: string) => {
      const stream = begin(open(port), 'ModelInfer', { 'grpc-encoding': encoding });
      stream.end(framed(message, true));
      return answerOf(stream);
    };
    assert.equal((await ask(gzipSync(Uint8Array.of(1)), 'gzip')).bytes, megabyte + 5);
    const bomb = gzipSync(Buffer.alloc(65 * megabyte));
    const refused = await Promise.all(Array.from({ length: 8 }, () => ask(bomb, 'gzip')));
    for (const { status, message } of refused) {
      assert.equal(status, '8');
      assert.match(message, /67108864/);
    }
    assert.equal((await ask(Buffer.from('x'), 'snappy')).status, '12');
    assert.equal((await ask(Buffer.from('x'), 'gzip')).status, '13');
  });

  test('connections on which nothing is asked make room; those with a call stay', async () => {
    const { port, bounds } = await start({ socketsMax: 8, socketsPerAddressMax: 8 });
    const busy = begin(open(port), 'ModelInfer');
    busy.write(framed(Buffer.alloc(100)).subarray(0, 50));
    const idle: Socket[] = [];
    let closed = 0;
    for (let i = 0; i < 30; i++) {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      socket.once('close', () => closed++);
      socket.resume();
      closers.push(() => socket.destroy());
      await once(socket, 'connect');
      idle.push(socket);
    }
    await until(() => closed >= 22, 'the first ones made room');
    assert.ok(bounds.places.size <= 8);
    assert.equal(await isServed(port), true);
    assert.equal(busy.closed, false);
  });
});

import assert from 'node:assert/strict';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import type { HttpLimits } from './http-server.ts';
import { createHttpServer, takeRawBodies } from './http-server.ts';

const megabyte = 1024 * 1024;

async function serve(limits: HttpLimits, use: (port: number) => Promise<void>): Promise<void> {
  const errorResponse = () => ({ status: 500, headers: {}, body: {} });
  const app = createHttpServer({ errorResponse, limits });
  takeRawBodies(app);
  app.post('/', async (request) => ({ bytes: (request.body as Buffer).length }));
  await app.listen({ host: '127.0.0.1', port: 0 });
  try {
    await use((app.server.address() as AddressInfo).port);
  } finally {
    await app.close();
  }
}

function begin(port: number, bytes: number, sent: number): { socket: Socket; closed: Promise<void> } {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.resume();
  socket.write(`POST / HTTP/1.1\r\nhost: x\r\ncontent-length: ${bytes}\r\n\r\n`);
  socket.write(Buffer.alloc(sent));
  return { socket, closed };
}

const upload = async (port: number, bytes: number): Promise<number> => {
  const response = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body: new Uint8Array(bytes) });
  return ((await response.json()) as { bytes: number }).bytes;
};

describe('bodies that are arriving', () => {
  test('large ones take turns, and none is lost', () =>
    serve({ uploadBytesMax: 64 * megabyte }, async (port) => {
      const sizes = Array.from({ length: 12 }, (_, i) => (i + 1) * megabyte * 2);
      assert.deepEqual(await Promise.all(sizes.map((size) => upload(port, size))), sizes);
    }));

  test('who holds its turn and sends next to nothing loses it to one who waits; small ones never wait', () =>
    serve({ uploadBytesMax: 64 * megabyte }, async (port) => {
      const slow = begin(port, 30 * megabyte, 2 * megabyte);
      assert.equal(await upload(port, megabyte / 2), megabyte / 2);
      assert.equal(await upload(port, 25 * megabyte), 25 * megabyte);
      await slow.closed;
    }));

  test('a body of which nothing arrives for too long is given up', () =>
    serve({ uploadStallTimeoutMs: 1_000 }, async (port) => {
      await begin(port, 2_000, 1_000).closed;
      assert.equal(await upload(port, 10), 10);
    }));
});

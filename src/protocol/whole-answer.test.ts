import assert from 'node:assert/strict';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createHttpServer, type HttpLimits } from './http-server.ts';
import { answerBytesMax } from './limits.ts';

const megabyte = 1024 * 1024;

/** A server whose GET /N answers with N megabytes. */
async function serve(limits: HttpLimits, use: (port: number) => Promise<void>): Promise<void> {
  const errorResponse = (error: unknown) => ({
    status: 500,
    headers: {},
    body: { code: (error as { code: string }).code },
  });
  const app = createHttpServer({ errorResponse, limits });
  app.get('/:megabytes', async (request) =>
    'é'.repeat((Number((request.params as { megabytes: string }).megabytes) * megabyte) / 2),
  );
  await app.listen({ host: '127.0.0.1', port: 0 });
  try {
    await use((app.server.address() as AddressInfo).port);
  } finally {
    await app.close();
  }
}

/** Asks and reads nothing; whether it was cut off is known once it reads what is left. */
function unreading(port: number, megabytes: number): { socket: Socket; wasCut: () => Promise<boolean> } {
  const socket = connect(port, '127.0.0.1');
  let received = 0;
  let closed = false;
  socket.on('error', () => {});
  socket.on('close', () => {
    closed = true;
  });
  socket.pause();
  socket.write(`GET /${megabytes} HTTP/1.1\r\nhost: x\r\n\r\n`);
  const wasCut = async (): Promise<boolean> => {
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    socket.resume();
    while (!closed && received < megabytes * megabyte) await sleep(5);
    socket.destroy();
    return received < megabytes * megabyte;
  };
  return { socket, wasCut };
}

describe('answers that are not streamed', () => {
  test('a large one arrives whole, over one connection after the other', () =>
    serve({}, async (port) => {
      for (let i = 0; i < 3; i++) {
        const response = await fetch(`http://127.0.0.1:${port}/20`);
        assert.equal(response.headers.get('content-length'), String(20 * megabyte));
        assert.equal(await response.text(), 'é'.repeat(10 * megabyte));
      }
    }));

  test('one over the limit is refused', () =>
    serve({}, async (port) => {
      const response = await fetch(`http://127.0.0.1:${port}/${answerBytesMax / megabyte + 1}`);
      assert.deepEqual([response.status, await response.json()], [500, { code: 'ANSWER_TOO_LARGE' }]);
    }));

  test('together they may wait with so many bytes: who does not read is cut off, who reads is not', () =>
    serve({ unreadAnswerBytesMax: 50 * megabyte }, async (port) => {
      const first = unreading(port, 30);
      await sleep(1_500);
      const response = await fetch(`http://127.0.0.1:${port}/30`);
      assert.equal((await response.text()).length, 15 * megabyte);
      assert.equal(await first.wasCut(), true);
    }));

  test('who reads nothing for too long is cut off though there is room', () =>
    serve({ answerStallTimeoutMs: 1_500 }, async (port) => {
      const unread = unreading(port, 30);
      await sleep(5_000);
      assert.equal(await unread.wasCut(), true);
    }));
});

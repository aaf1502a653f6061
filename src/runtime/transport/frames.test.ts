import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { frameBytesMax, readFrames, writeFrame, writeInFrames } from './frames.ts';

const server = createServer();
let client: Socket;
let received: Socket;

before(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  [received] = (await once(server, 'connection')) as [Socket];
});
after(() => {
  client.destroy();
  server.close();
});

test('values cross whole, however the bytes are cut, and typed arrays stay typed', async () => {
  const values: unknown[] = [];
  readFrames(received, (value) => values.push(value));
  const sent = [{ a: 1 }, Int32Array.of(1, 2, 3), 'x'.repeat(300_000), { nested: [new Float64Array(9)] }];
  for (const value of sent) writeFrame(client, value);
  while (values.length < sent.length) await once(received, 'data');
  assert.deepEqual(values, sent);
});

test('items that do not fit one frame go in several; one that fits none is handed back', async () => {
  const values: Uint8Array[][] = [];
  readFrames(received, (value) => values.push(value as Uint8Array[]));
  const third = new Uint8Array(frameBytesMax / 3);
  const tooLarge = new Uint8Array(frameBytesMax + 1);
  const unsendable: Uint8Array[] = [];
  writeInFrames(
    client,
    [third, third, tooLarge, third, third],
    (items) => items,
    (item, error) => {
      assert.equal(error.code, 'REQUEST_TOO_LARGE');
      unsendable.push(item);
    },
  );
  while (values.flat().length < 4) await once(received, 'data');
  assert.equal(unsendable.length, 1);
  assert.equal(unsendable[0], tooLarge);
});

test('bytes that are no frame end the connection, not the process', async () => {
  for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.from([3, 0, 0, 0, 9, 9, 9])]) {
    const stranger = connect((server.address() as AddressInfo).port, '127.0.0.1');
    const [end] = (await once(server, 'connection')) as [Socket];
    end.on('error', () => {});
    readFrames(end, () => assert.fail('nothing was said'));
    stranger.on('error', () => {});
    stranger.write(bytes);
    await new Promise((resolve) => end.once('close', resolve));
  }
});

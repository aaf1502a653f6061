import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import { after, test } from 'node:test';
import { RankLink, unreadBytesMax, waitingFramesMax } from './rank-link.ts';

const sockets: Socket[] = [];
const server = createServer((socket) => arrivals.shift()?.(socket));
const arrivals: ((socket: Socket) => void)[] = [];
after(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
});

/** Two ends of a connection. */
async function pair(): Promise<[Socket, Socket]> {
  if (!server.listening) await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const arrived = new Promise<Socket>((resolve) => arrivals.push(resolve));
  const { port } = server.address() as { port: number };
  const near = connect(port, '127.0.0.1');
  const far = await arrived;
  sockets.push(near, far);
  return [near, far];
}

test('frames of a kind come in order, whole, whatever their size and however they are cut', async () => {
  const [a, b] = (await pair()).map((socket) => new RankLink(socket)) as [RankLink, RankLink];
  b.trust(1);
  const bodies = [0, 1, 70_000, 3, 1_000_000].map((length, seed) => new Uint8Array(length).fill(seed + 1));
  for (const body of bodies) a.send('step', body);
  a.sendJson('facts', { weight: 3 });
  assert.deepEqual(await b.nextJson('facts'), { weight: 3 });
  for (const body of bodies) assert.deepEqual(await b.next('step'), body);
  const lost = b.next('step');
  a.close();
  await assert.rejects(lost, { code: 'RANK_LOST' });
});

test('a peer that is too far ahead, or reads too little, is lost', async () => {
  const [a, b] = (await pair()).map((socket) => new RankLink(socket)) as [RankLink, RankLink];
  const reason = new Promise<Error>((resolve) => b.onClosed(resolve));
  for (let count = 0; count <= waitingFramesMax; count++) a.sendJson('facts', count);
  assert.match((await reason).message, /more than 256 of its 'facts' messages wait \(waitingFramesMax\)/);
  const [near, far] = await pair();
  far.pause();
  const slow = new RankLink(near);
  const unread = new Promise<Error>((resolve) => slow.onClosed(resolve));
  const body = new Uint8Array(unreadBytesMax / 4);
  for (let count = 0; count < 6; count++) slow.send('step', body);
  assert.match((await unread).message, /bytes unread \(unreadBytesMax\)/);
});

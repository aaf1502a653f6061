import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { addressText, listenAt, parseAddress, type RankAddress } from './address.ts';
import type { RankIdentity } from './handshake.ts';
import { LinkCollective } from './link-collective.ts';
import { RankMesh } from './rank-mesh.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-mesh-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
const freshPath = () => ({ path: join(folder, `${count++}.sock`) });

const identity = (rank: number, ranks: number): RankIdentity => ({
  rank,
  ranks,
  secret: 'a secret of this test',
  version: '1.0.0',
  engine: 'engine',
});

/** A port that was free a moment ago. */
async function freePort(): Promise<RankAddress> {
  const server = createServer();
  const address = await listenAt(server, { host: '127.0.0.1', port: 0 });
  await new Promise((resolve) => server.close(resolve));
  return address;
}

function joinAll(leader: RankAddress, ranks: number): Promise<RankMesh[]> {
  // The last ranks first: whoever comes before the leader listens tries again.
  const order = Array.from({ length: ranks }, (_, index) => ranks - 1 - index);
  return Promise.all(order.map((rank) => RankMesh.join({ identity: identity(rank, ranks), leader }))).then(
    (meshes) => meshes.reverse(),
  );
}

for (const kind of ['a Unix-domain socket', 'TCP'] as const) {
  test(`four ranks come together over ${kind} and exchange values`, async () => {
    const meshes = await joinAll(kind === 'TCP' ? await freePort() : freshPath(), 4);
    const collectives = meshes.map((mesh, rank) => {
      const links = meshes.map((_, other) => (other === rank ? undefined : mesh.link(other)));
      return new LinkCollective(rank, links);
    });
    const values = collectives.map(({ rank }) => Float32Array.of(rank, 10 * rank, 0.5));
    await Promise.all(collectives.map((one, rank) => one.allReduce(values[rank] as Float32Array)));
    for (const own of values) assert.deepEqual([...own], [6, 60, 2]);
    const widths = [1, 2, 1, 3];
    const joined = await Promise.all(
      collectives.map(async (one, rank) => {
        const result = new Float32Array(14);
        const own = Float32Array.from({ length: 2 * (widths[rank] ?? 0) }, (_, i) => rank * 10 + i);
        await one.allGather(own, widths, result);
        return [...result];
      }),
    );
    for (const own of joined) assert.deepEqual(own, [0, 10, 11, 20, 30, 31, 32, 1, 12, 13, 21, 33, 34, 35]);
    const lost = new Promise<Error>((resolve) => meshes[3]?.onLost(resolve));
    meshes[1]?.close();
    assert.match((await lost).message, /rank 1 of the engine is lost/);
    await assert.rejects(collectives[0]?.allReduce(new Float32Array(1)) ?? Promise.resolve(), {
      code: 'RANK_LOST',
    });
    for (const mesh of meshes) mesh.close();
  });
}

test('another version, engine, secret or group size is refused, and both sides say why', async () => {
  const cases: [Partial<RankIdentity>, RegExp][] = [
    [{ version: '2.0.0' }, /rank 1 runs Nereid 2\.0\.0, rank 0 1\.0\.0/],
    [{ engine: 'other' }, /rank 1 has another engine than rank 0/],
    [{ secret: 'guessed' }, /does not know the group's secret/],
    [{ ranks: 3 }, /rank 1 counts 3 ranks, rank 0 2/],
    [{ rank: 2, ranks: 2 }, /rank 2 is not expected here/],
  ];
  for (const [change, expected] of cases) {
    const leader = freshPath();
    const refusals: string[] = [];
    const leading = RankMesh.join({
      identity: identity(0, 2),
      leader,
      joinTimeoutMs: 300,
      onRefused: (reason) => refusals.push(reason),
    });
    leading.catch(() => {});
    const follower = RankMesh.join({ identity: { ...identity(1, 2), ...change }, leader });
    await assert.rejects(follower, { code: 'RANK_REFUSED', message: expected });
    await assert.rejects(leading, { code: 'RANKS_INCOMPLETE', message: /missing: rank 1 of 2/ });
    assert.match(refusals.join(), expected);
  }
});

test('a stranger that sends anything else, or much of it, is cut off and harms nobody', async () => {
  const leader = freshPath();
  const leading = RankMesh.join({ identity: identity(0, 2), leader });
  for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), largeHeader(), Buffer.alloc(0)]) {
    const socket = await connectedTo(leader);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => {});
    socket.resume();
    if (bytes.length > 0) socket.write(bytes);
    else socket.destroy();
    await closed;
  }
  const follower = await RankMesh.join({ identity: identity(1, 2), leader });
  const mesh = await leading;
  mesh.close();
  follower.close();
});

/** A header of a 'step' of 128 MiB, before any handshake. */
function largeHeader(): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(0x4b_52_52_4e, 0);
  header.writeUInt32LE(11, 4);
  header.writeUInt32LE(128 * 1024 * 1024, 8);
  return header;
}

async function connectedTo(address: RankAddress) {
  for (;;) {
    const socket = connect(address);
    const connected = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    if (connected) return socket;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('a leader is given as host:port', () => {
  assert.deepEqual(parseAddress('10.0.0.1:29500'), { host: '10.0.0.1', port: 29500 });
  assert.equal(addressText(parseAddress('[::1]:80')), '[::1]:80');
  for (const wrong of ['host', ':1', 'host:0', 'host:99999', '::1:80', 'host:80x']) {
    assert.throws(() => parseAddress(wrong), { code: 'OPTIONS_INVALID', message: /give host:port/ });
  }
});

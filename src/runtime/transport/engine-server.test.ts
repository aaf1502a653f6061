import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { auditedEngine, contextLength } from '../../../test/support/engine-simulator.ts';
import { surfacing } from '../../../test/support/surfacing.ts';
import { prefixKeyOf } from '../kv/prefix-hash.ts';
import type { EngineCore } from '../loop/engine-core.ts';
import type { SequenceEvent } from '../requests/events.ts';
import { type GenerationRequest, greedySampling } from '../requests/request.ts';
import { PromptHashes } from '../routing/prompt-hashes.ts';
import { EngineServer } from './engine-server.ts';
import { readFrames, writeFrame } from './frames.ts';
import type { EngineMessage, HelloMessage } from './messages.ts';
import { RemoteEngine } from './remote-client.ts';
import { connectionOf } from './request-ids.ts';

const blockPositions = 16;
const folder = mkdtempSync(join(tmpdir(), 'engine-server-'));
const socketPath = join(folder, 'engine');
let core: EngineCore;
let server: EngineServer;

before(async () => {
  let emit: (events: SequenceEvent[]) => void = () => {};
  ({ core } = await auditedEngine({ blockPositions }, (events) => emit(events)));
  server = new EngineServer(
    (dispatch) => {
      emit = dispatch;
      return core;
    },
    (error) => assert.fail(String(error)),
    () => {},
  );
  await server.listen(socketPath);
});
after(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

function request(changes: Partial<GenerationRequest> = {}): Omit<GenerationRequest, 'id'> {
  return {
    promptTokens: Int32Array.from({ length: 50 }, (_, index) => index),
    sampling: greedySampling,
    maxTokens: 4,
    minTokens: 0,
    stopTokenIds: [],
    sequences: 1,
    priority: 0,
    ...changes,
  };
}

/** A front end that says what it likes. */
interface Stranger {
  socket: Socket;
  heard: EngineMessage[];
  hello: HelloMessage;
}

async function stranger(): Promise<Stranger> {
  const socket = connect(socketPath);
  const heard: EngineMessage[] = [];
  socket.on('error', () => {});
  readFrames(socket, (value) => heard.push(value as EngineMessage));
  while (heard.length === 0) await once(socket, 'data');
  return { socket, heard, hello: heard[0] as HelloMessage };
}

function generate(client: RemoteEngine, asked = request()): Promise<SequenceEvent[]> {
  return new Promise((resolve) => {
    const events: SequenceEvent[] = [];
    client.submit(asked, (event) => {
      events.push(event);
      if (event.finish) resolve(events);
    });
  });
}

async function remote(): Promise<RemoteEngine> {
  const client = new RemoteEngine(socketPath);
  await client.whenReady();
  return client;
}

const malformed: [string, (id: number) => unknown][] = [
  ['nothing', () => undefined],
  ['a text', () => 'submit'],
  ['no lists', () => ({})],
  ['requests that are none', () => ({ submits: [null], cancels: [] })],
  ['a prompt of text', (id) => ({ submits: [{ ...request(), id, promptTokens: 'abc' }], cancels: [] })],
  [
    'endless sequences',
    (id) => ({ submits: [{ ...request(), id, sequences: Number.POSITIVE_INFINITY }], cancels: [] }),
  ],
  ['a million sequences', (id) => ({ submits: [{ ...request(), id, sequences: 1e6 }], cancels: [] })],
  ['no sampling', (id) => ({ submits: [{ ...request(), id, sampling: undefined }], cancels: [] })],
  [
    'a bias of one',
    (id) => ({
      submits: [{ ...request(), id, sampling: { ...greedySampling, logitBias: [1] } }],
      cancels: [],
    }),
  ],
  ['an id that is none', () => ({ submits: [{ ...request(), id: Number.NaN }], cancels: [] })],
  ["another's id", (id) => ({ submits: [{ ...request(), id: id + 2 ** 40 }], cancels: [] })],
  ['an id from before', (id) => ({ submits: [{ ...request(), id: id - 1 }], cancels: [] })],
  [
    'one id twice',
    (id) => ({
      submits: [
        { ...request(), id },
        { ...request(), id },
      ],
      cancels: [],
    }),
  ],
  ['a cancel of nothing', () => ({ submits: [], cancels: [{}] })],
  ['a watch of another type', () => ({ submits: [], cancels: [], watchPrefixes: 'yes' })],
];

for (const [name, message] of malformed) {
  test(`a front end that sends ${name} is cut off; others go on`, async () => {
    const { socket, hello } = await stranger();
    writeFrame(socket, message(hello.firstRequestId));
    if (!socket.closed) await once(socket, 'close');
    const client = await remote();
    assert.equal((await generate(client)).at(-1)?.finish, 'length');
    await client.close();
    assert.equal(core.statistics().runningSequences, 0);
  });
}

test('a well-shaped request that cannot be is refused, with one end for each of its sequences', async () => {
  const { socket, heard, hello } = await stranger();
  const bad = {
    ...request({ sequences: 3, promptTokens: new Int32Array(contextLength) }),
    id: hello.firstRequestId,
  };
  writeFrame(socket, { submits: [bad], cancels: [] });
  while (heard.length < 2) await once(socket, 'data');
  const [, answer] = heard;
  assert.ok(answer?.kind === 'step');
  assert.deepEqual([...answer.sequences], [0, 1, 2]);
  for (const [, extra] of answer.extras) assert.equal(extra.error?.code, 'PROMPT_TOO_LONG');
  socket.destroy();
  await once(socket, 'close');
});

test('thousands of front ends may come and go, and their ids stay safe and their own', async () => {
  const firsts = new Set<number>();
  for (let life = 0; life < 300; life++) {
    const { socket, hello } = await stranger();
    assert.ok(Number.isSafeInteger(hello.firstRequestId));
    assert.ok(connectionOf(hello.firstRequestId) < 4096);
    writeFrame(socket, {
      submits: [{ ...request({ maxTokens: 1 }), id: hello.firstRequestId }],
      cancels: [],
    });
    assert.equal(firsts.has(hello.firstRequestId), false);
    firsts.add(hello.firstRequestId);
    socket.end();
    await once(socket, 'close');
  }
});

test('who asks is told what the KV cache knows, and then what it learns and forgets; who does not is told nothing', async (t) => {
  const [asking, silent] = [await remote(), await stranger()];
  t.after(() => {
    silent.socket.destroy();
    return asking.close();
  });
  await generate(asking, request({ cacheSalt: 'before' }));
  const view = asking.watchPrefixes();
  assert.equal(asking.watchPrefixes(), view);
  const hashes = (cacheSalt: string) =>
    new PromptHashes(request().promptTokens, prefixKeyOf({ cacheSalt }), blockPositions);
  const events = await generate(asking, request({ cacheSalt: 'after' }));
  // The snapshot, and with the first token at the latest what this prompt added.
  assert.equal(events.at(-1)?.finish, 'length');
  assert.equal(view.chunksKnown(hashes('before')), 3);
  assert.equal(view.chunksKnown(hashes('after')), 3);
  assert.equal(view.chunksKnown(hashes('never')), 0);
  core.releaseRetained();
  await generate(asking, request({ cacheSalt: 'last' }));
  assert.equal(view.chunksKnown(hashes('before')), 0);
  assert.equal(view.chunksKnown(hashes('last')), 3);
  assert.deepEqual(
    silent.heard.filter(({ kind }) => kind === 'prefixes'),
    [],
  );
});

test("a listener's own bug costs its own request, surfaces once, and the engine's other requests go on", async () => {
  const client = await remote();
  const surfaced = await surfacing(async () => {
    client.submit(request({ maxTokens: 100 }), () => {
      throw new TypeError('a bug of the listener');
    });
    const other = await generate(client, request({ cacheSalt: 'other', maxTokens: 20 }));
    assert.equal(other.at(-1)?.finish, 'length');
    while (client.inFlight > 0) await new Promise((resolve) => setImmediate(resolve));
  });
  assert.deepEqual(surfaced.map(String), ['TypeError: a bug of the listener']);
  await client.close();
});

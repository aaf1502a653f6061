import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { auditedEngine, requestOf, vocabularySize } from '../../../test/support/engine-simulator.ts';
import type { EngineCore } from '../loop/engine-core.ts';
import { FileStore } from '../outputs/file-segment.ts';
import { outputRows, type RowsReference } from '../outputs/output-rows.ts';
import type { SequenceEvent } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';
import { EngineServer } from './engine-server.ts';
import { readFrames, writeFrame } from './frames.ts';
import type { EngineMessage } from './messages.ts';
import { RemoteEngine } from './remote-client.ts';

/** Logits of so many tokens find room. */
const rowsMax = 20;
const rowBytes = vocabularySize * 4;

/** An engine behind a socket, whose large outputs lie in files. */
async function engine(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'engine-outputs-'));
  const outputs = new FileStore(rowsMax * rowBytes);
  let emit: (events: SequenceEvent[]) => void = () => {};
  let runnable = (): void => {};
  const overrides = { outputs, onRunnable: () => runnable() };
  const { core } = await auditedEngine(overrides, (events) => emit(events));
  const make = (dispatch: typeof emit, onRunnable: () => void): EngineCore => {
    emit = dispatch;
    runnable = onRunnable;
    return core;
  };
  const fail = (error: unknown): void => assert.fail(String(error));
  const server = new EngineServer(make, fail, () => {}, undefined, outputs);
  const socketPath = join(folder, 'engine');
  await server.listen(socketPath);
  const client = new RemoteEngine(socketPath);
  await client.whenReady();
  t.after(async () => {
    await client.close();
    server.close();
    outputs.close();
    rmSync(folder, { recursive: true });
  });
  return { client, outputs, socketPath };
}

function request(changes: Partial<GenerationRequest>): Omit<GenerationRequest, 'id'> {
  return requestOf({ id: 0, promptTokens: Int32Array.of(5, 6, 7, 8), maxTokens: 3, ...changes });
}

function events(client: RemoteEngine, asked: Omit<GenerationRequest, 'id'>): Promise<SequenceEvent[]> {
  return new Promise((resolve) => {
    const heard: SequenceEvent[] = [];
    client.submit(asked, (event) => {
      heard.push(event);
      if (event.finish) resolve(heard);
    });
  });
}

const waitMs = 60_000;

async function until(isSo: () => boolean): Promise<void> {
  const deadline = Date.now() + waitMs;
  while (!isSo()) {
    assert.ok(Date.now() < deadline, String(isSo));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('logits cross in files, each with its token; what was read is deleted', async (t) => {
  const { client, outputs } = await engine(t);
  const asked = request({ returns: { contextLogits: true, generationLogits: true } });
  const heard = await events(client, asked);
  const context = outputRows(heard[0]?.outputs, 'contextLogits');
  assert.deepEqual([context?.rows, context?.width], [4, vocabularySize]);
  const tokens = heard.flatMap((event) => {
    const own = outputRows(event.outputs, 'generationLogits');
    assert.equal(own?.rows, event.tokens.length);
    const likeliest = event.tokens.map((_, row) => {
      const row_ = own!.values.subarray(row * vocabularySize, (row + 1) * vocabularySize);
      return row_.indexOf(Math.max(...row_));
    });
    assert.deepEqual(likeliest, event.tokens);
    return event.tokens;
  });
  assert.equal(tokens.length, 3);
  await until(() => outputs.bytesTaken === 0);
});

test('an embedding is in the event that ends its request', async (t) => {
  const { client } = await engine(t);
  const [event, ...rest] = await events(client, request({ maxTokens: 0, returns: { pooling: 'mean' } }));
  assert.equal(rest.length, 0);
  assert.equal(event?.embedding?.length, client.description.hiddenWidth);
  assert.equal(event?.finish, 'length');
  assert.ok(event?.start);
});

test('requests whose logits find no room wait for each other; others do not wait for them', async (t) => {
  const { client, outputs } = await engine(t);
  const large = request({ maxTokens: 12, returns: { generationLogits: true } });
  const ended: string[] = [];
  const all = [
    ...[0, 1, 2].map((index) => events(client, large).then(() => ended.push(`large ${index}`))),
    events(client, request({ maxTokens: 1 })).then(() => ended.push('plain')),
  ];
  await Promise.all(all);
  assert.deepEqual(ended, ['plain', 'large 0', 'large 1', 'large 2']);
  await until(() => outputs.bytesTaken === 0);
});

test('what may take more than all the room there is, is refused before it crosses', async (t) => {
  const { client } = await engine(t);
  const asked = request({ maxTokens: rowsMax + 1, returns: { generationLogits: true } });
  assert.throws(() => client.submit(asked, () => {}), { code: 'REQUEST_TOO_LARGE' });
});

test('cancelled midway, a request gives its room back', async (t) => {
  const { client, outputs } = await engine(t);
  for (let tokens = 0; tokens < 4; tokens++) {
    await new Promise<void>((resolve) => {
      let heard = 0;
      const asked = request({ maxTokens: 10, returns: { contextLogits: true, generationLogits: true } });
      const handle = client.submit(asked, (event) => {
        heard += event.tokens.length;
        if (heard >= tokens) handle.cancel();
        if (event.finish) resolve();
      });
      if (tokens === 0) handle.cancel();
    });
  }
  await until(() => outputs.bytesTaken === 0);
});

test('a front end that leaves with rows unread leaves no file behind', async (t) => {
  const { outputs, socketPath } = await engine(t);
  const socket = connect(socketPath);
  const references: RowsReference[] = [];
  let isOver = false;
  readFrames(socket, (value) => {
    const message = value as EngineMessage;
    if (message.kind === 'hello') {
      const asked = request({ returns: { contextLogits: true } });
      writeFrame(socket, { submits: [{ ...asked, id: message.firstRequestId }], cancels: [] });
    } else if (message.kind === 'step') {
      for (const [, extra] of message.extras) {
        references.push(...(Object.values(extra.outputs ?? {}) as RowsReference[]));
        isOver ||= extra.finish !== undefined;
      }
    }
  });
  await until(() => isOver);
  assert.ok(existsSync(references[0]!.path));
  // A lie about a request of nobody changes nothing.
  writeFrame(socket, { submits: [], cancels: [], outputsRead: [12345] });
  assert.equal(outputs.bytesTaken, 4 * rowBytes);
  socket.destroy();
  await until(() => outputs.bytesTaken === 0);
  assert.equal(existsSync(references[0]!.path), false);
});

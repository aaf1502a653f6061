import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, credentials } from '@grpc/grpc-js';
import { messageCodec, type PlainMessage } from '../../src/protocol/proto-messages.ts';
import { startServe } from '../support/serve.ts';

const requests = messageCodec('grpc_service.proto', 'inference.ModelInferRequest');
const streamed = messageCodec('grpc_service.proto', 'inference.ModelStreamInferResponse');
const service = '/inference.GRPCInferenceService';

/** A channel of its own: grpc-js shares connections of equal channels. */
const connect = (port: string): Client =>
  new Client(`127.0.0.1:${port}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });

const text = (value: string): Buffer => {
  const bytes = Buffer.from(value);
  const head = Buffer.alloc(4);
  head.writeUInt32LE(bytes.length);
  return Buffer.concat([head, bytes]);
};

function request(id: string, tokens: number): PlainMessage {
  const one = (name: string, datatype: string) => ({ name, datatype, shape: [1, 1] });
  return {
    model_name: 'ensemble',
    id,
    inputs: [
      one('text_input', 'BYTES'),
      one('max_tokens', 'INT32'),
      one('end_id', 'INT32'),
      one('stream', 'BOOL'),
    ],
    raw_input_contents: [
      text('A river is'),
      Buffer.from(Int32Array.of(tokens).buffer),
      Buffer.from(Int32Array.of(-1).buffer),
      Buffer.from([1]),
    ],
  };
}

/** The ids of all responses of some requests on one stream. */
function stream(client: Client, messages: readonly PlainMessage[]): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const ids: string[] = [];
    const call = client.makeBidiStreamRequest(
      `${service}/ModelStreamInfer`,
      (message: PlainMessage) => requests.encode(message),
      (bytes) => streamed.decode(bytes),
    );
    call.on('data', (message: PlainMessage) => {
      if (message.error_message) reject(new Error(String(message.error_message)));
      ids.push(String((message.infer_response as PlainMessage).id));
    });
    call.on('error', reject);
    call.on('end', () => resolve(ids));
    for (const message of messages) call.write(message);
    call.end();
  });
}

test('gRPC on several front ends: each connection is served whole, by whichever takes it', async (context) => {
  const server = await startServe('front-ends-grpc', [
    ...['--device', 'null', '--front-ends', '2', '--grpc-port', '0', '--log-level', 'error'],
  ]);
  context.after(() => server.stop());
  const port = /Started GRPCInferenceService at \S+:(\d+)/.exec(server.log())?.[1];
  assert.ok(port, server.log());
  const clients = Array.from({ length: 6 }, () => connect(port));
  context.after(() => {
    for (const client of clients) client.close();
  });
  const answers = await Promise.all(
    clients.map((client, index) => stream(client, [request(`a${index}`, 20), request(`b${index}`, 20)])),
  );
  answers.forEach((ids, index) => {
    for (const id of [`a${index}`, `b${index}`]) {
      assert.equal(ids.filter((one) => one === id).length, 20, `${id}: ${ids}`);
    }
    assert.equal(ids.length, 40);
  });
  // One that leaves in the middle takes nobody with it.
  const leaving = connect(port);
  const call = leaving.makeBidiStreamRequest(
    `${service}/ModelStreamInfer`,
    (message: PlainMessage) => requests.encode(message),
    (bytes) => streamed.decode(bytes),
  );
  const seen = new Promise((resolve) => call.once('data', resolve));
  call.on('error', () => {});
  call.write(request('leaving', 400));
  await seen;
  call.cancel();
  leaving.close();
  const after = await Promise.all(clients.map((client) => stream(client, [request('later', 5)])));
  for (const ids of after) assert.equal(ids.length, 5);
  assert.equal(await server.stop(), 0, server.log());
});

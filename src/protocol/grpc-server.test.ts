import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { Client, credentials, type ServiceError, type sendUnaryData } from '@grpc/grpc-js';
import { startGrpcServer } from './grpc-server.ts';
import type { GrpcService } from './grpc-service.ts';
import { messageCodec, type PlainMessage } from './proto-messages.ts';

const protoFile = 'grpc_service.proto';

const metadataService: GrpcService = {
  name: 'inference.GRPCInferenceService',
  protoFile,
  methods: [
    {
      name: 'ServerMetadata',
      handler: (_call: unknown, done: sendUnaryData<PlainMessage>) =>
        done(null, { name: 'n', version: '1', extensions: ['a', 'b'] }),
    },
    {
      name: 'ModelReady',
      requestBytesMax: 8_000_000,
      handler: (call: { request: PlainMessage }, done: sendUnaryData<PlainMessage>) =>
        done(null, { ready: String(call.request.name).length > 5_000_000 }),
    },
  ],
};

async function call(client: Client, method: string, request: PlainMessage): Promise<PlainMessage> {
  const codec = (suffix: string) => messageCodec(protoFile, `inference.${method}${suffix}`);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      `/inference.GRPCInferenceService/${method}`,
      (message: PlainMessage) => codec('Request').encode(message),
      (bytes) => codec('Response').decode(bytes),
      request,
      (error: ServiceError | null, response?: PlainMessage) =>
        error ? reject(error) : resolve(response ?? {}),
    );
  });
}

test('services answer on the port; messages may be larger than grpc-js’s 4 MB, up to the limit', async () => {
  const start = (limits?: { receivedMessageBytesMax: number }) =>
    startGrpcServer({
      host: '127.0.0.1',
      port: 0,
      readiness: () => ({ '': true }),
      services: [metadataService],
      limits,
    });
  const open = (port: number) =>
    new Client(`127.0.0.1:${port}`, credentials.createInsecure(), { 'grpc.max_send_message_length': -1 });
  const server = await start();
  const client = open(server.port);
  assert.deepEqual(await call(client, 'ServerMetadata', {}), {
    name: 'n',
    version: '1',
    extensions: ['a', 'b'],
  });
  assert.deepEqual(await call(client, 'ModelReady', { name: 'x'.repeat(6_000_000) }), { ready: true });
  client.close();
  await server.close();
  const small = await start({ receivedMessageBytesMax: 1000 });
  const other = open(small.port);
  await assert.rejects(call(other, 'ModelReady', { name: 'x'.repeat(2000) }), /RESOURCE_EXHAUSTED/);
  other.close();
  await small.close();
});

test('reflection lists the services and hands out their files', async () => {
  const server = await startGrpcServer({
    host: '127.0.0.1',
    port: 0,
    readiness: () => ({ '': true }),
    services: [metadataService],
  });
  const client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure());
  const require = createRequire(import.meta.url);
  const loader = require('@grpc/proto-loader') as typeof import('@grpc/proto-loader');
  const folder = join(require.resolve('@grpc/reflection'), '../../proto/grpc/reflection/v1');
  const definition = loader.loadSync(join(folder, 'reflection.proto'), { keepCase: true });
  const service = definition[
    'grpc.reflection.v1.ServerReflection'
  ] as import('@grpc/proto-loader').ServiceDefinition;
  const method = service.ServerReflectionInfo;
  assert.ok(method);
  const stream = client.makeBidiStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
  );
  const answers: {
    list_services_response?: { service: { name: string }[] };
    file_descriptor_response?: unknown;
  }[] = [];
  const done = new Promise<void>((resolve, reject) => {
    stream.on('data', (answer) => answers.push(answer));
    stream.on('end', resolve);
    stream.on('error', reject);
  });
  stream.write({ host: '', list_services: '' });
  stream.write({ host: '', file_containing_symbol: 'inference.ModelConfig' });
  stream.end();
  await done;
  const names = answers[0]?.list_services_response?.service.map(({ name }) => name) ?? [];
  assert.ok(
    names.includes('inference.GRPCInferenceService') && names.includes('grpc.health.v1.Health'),
    names.join(),
  );
  assert.ok(answers[1]?.file_descriptor_response);
  client.close();
  await server.close();
});

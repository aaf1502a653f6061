import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Client, Metadata, type ServiceError } from '@grpc/grpc-js';
import { messageCodec, type PlainMessage } from '../../src/protocol/proto-messages.ts';
import { readTls } from '../../src/protocol/tls.ts';
import type { Restriction } from '../../src/protocol/triton/context.ts';
import { openRepository, type Repository } from '../../src/repository/repository.ts';
import { eventually } from '../openai/test-server.ts';
import { engineModels } from '../repository/engine-models.ts';
import { runCli } from '../support/run-cli.ts';
import { ask } from './ask.ts';
import { writeTestModels } from './models.ts';
import { type TritonServer, tritonServer } from './test-server.ts';

const tlsFolder = join(import.meta.dirname, '../support/tls');
const pem = (name: string): string => join(tlsFolder, `${name}.pem`);
const requests = messageCodec('grpc_service.proto', 'inference.ModelInferRequest');
const service = '/inference.GRPCInferenceService';
const json = { name: '', method: 'POST', headers: { 'content-type': 'application/json' } };

/** The status of a unary call. */
function call(
  client: Client,
  method: string,
  message: PlainMessage,
  metadata = new Metadata(),
): Promise<string> {
  const request = messageCodec('grpc_service.proto', `inference.${method}Request`);
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      `${service}/${method}`,
      (value: PlainMessage) => request.encode(value),
      (bytes) => bytes,
      message,
      metadata,
      (error) => resolve(error ? `${error.code} ${error.details}` : 'ok'),
    );
  });
}

describe('a Triton front end that not everybody may use', () => {
  const folder = writeTestModels();
  let repository: Repository;
  before(async () => {
    const engines = { acquire: () => Promise.reject(new Error('these models need no engine')) };
    repository = await openRepository({ folders: [folder], engines });
  });
  after(async () => {
    await repository.close(0);
    rmSync(folder, { recursive: true });
  });

  const withServer = async (
    options: Omit<Parameters<typeof tritonServer>[0], 'repository'>,
    body: (server: TritonServer) => Promise<void>,
  ): Promise<void> => {
    const server = await tritonServer({ repository, ...options });
    try {
      await body(server);
    } finally {
      await server.close();
    }
  };

  test('restricted APIs ask for their header; others do not', async () => {
    const restriction: Restriction = { apis: ['inference', 'statistics'], header: 'X-Key', value: 'secret' };
    await withServer({ restrictions: { http: [restriction], grpc: [restriction] } }, async (server) => {
      const body = JSON.stringify({ inputs: [{ name: 'IN', shape: [1], datatype: 'INT32', data: [1] }] });
      const infer = { ...json, path: '/v2/models/single/infer', body };
      const refused = await ask(server.httpPort, infer);
      assert.equal(refused.status, 403);
      assert.match(refused.body, /This API is restricted, expecting header 'X-Key'/);
      assert.equal((await ask(server.httpPort, { ...infer, headers: { 'x-key': 'secret' } })).status, 200);
      assert.equal((await ask(server.httpPort, { ...infer, headers: { 'x-key': 'wrong' } })).status, 403);
      const get = (path: string) => ask(server.httpPort, { name: '', method: 'GET', path });
      assert.equal((await get('/v2/models/single/stats')).status, 403);
      assert.equal((await get('/v2/models/single')).status, 200);
      assert.equal((await get('/v2/health/ready')).status, 200);

      const message = {
        model_name: 'single',
        inputs: [{ name: 'IN', datatype: 'INT32', shape: [1] }],
        raw_input_contents: [Buffer.alloc(4)],
      };
      const withKey = new Metadata();
      withKey.set('triton-grpc-protocol-x-key', 'secret');
      assert.match(await call(server.client, 'ModelInfer', message), /^14 This protocol is restricted/);
      assert.equal(await call(server.client, 'ModelInfer', message, withKey), 'ok');
      assert.match(await call(server.client, 'ModelStatistics', {}), /^14 /);
      assert.equal(await call(server.client, 'ModelMetadata', { name: 'single' }), 'ok');
      assert.equal(await call(server.client, 'ServerReady', {}), 'ok');
    });
  });

  test('a stream that nobody reads is ended at its limit; one that is read goes on', async () => {
    const streamBufferBytesMax = 256 * 1024;
    await withServer({ streamBufferBytesMax }, async ({ client }) => {
      // More than the limit and all buffers of the network on the way.
      const elements = 200_000;
      const open = () => {
        const stream = client.makeBidiStreamRequest(
          `${service}/ModelStreamInfer`,
          (value: PlainMessage) => requests.encode(value),
          (bytes: Buffer) => bytes,
        );
        stream.write({
          model_name: 'repeat',
          inputs: [{ name: 'IN', datatype: 'INT32', shape: [elements] }],
          raw_input_contents: [Buffer.alloc(4 * elements)],
        });
        stream.end();
        return stream;
      };
      const unread = open();
      let error: ServiceError | undefined;
      unread.on('error', (thrown: ServiceError) => {
        error = thrown;
      });
      // A stream that has no reader asks for nothing.
      const pending = () => repository.statistics('repeat')[0];
      await eventually(() => (pending()?.failures.CANCELED ?? 0) > 0, 'the server gives it up');
      unread.on('data', () => {});
      await eventually(() => error !== undefined, 'the client is told');
      assert.equal(error?.code, 8);
      assert.match(error?.details ?? '', /left over 262144 bytes of responses unread; read faster/);
      assert.equal(await call(client, 'ServerReady', {}), 'ok');
    });
  });
});

describe('TLS on the gRPC port', () => {
  test('a client of ours, with and without a certificate of its own', async (context) => {
    const models = await engineModels({ says: 'chef. ' });
    context.after(() => models.close());
    const files = { certificateFile: pem('server'), keyFile: pem('server-key') };
    const tokenizer = join(models.folder, '..', 'tokenizer');
    const base = ['client', 'inflight', '--tokenizer-dir', tokenizer, '--text', 'abc', '-C', 'gzip'];
    const trust = ['--ssl', '-r', pem('authority')];
    const own = ['-p', pem('client-key'), '-x', pem('client')];
    const material = await readTls(files);
    assert.deepEqual(material.cert, readFileSync(pem('server')));
    for (const [tls, flags, isServed] of [
      [material, trust, true],
      [material, [], false],
      [await readTls({ ...files, clientAuthorityFile: pem('authority') }), [...trust, ...own], true],
      [await readTls({ ...files, clientAuthorityFile: pem('authority') }), trust, false],
    ] as const) {
      const server = await tritonServer({ repository: models.repository }, tls);
      try {
        const url = ['-u', `localhost:${server.grpcPort}`];
        const { code, stdout, stderr } = await runCli([...base, ...url, ...flags, '-t', '20']);
        assert.equal(code === 0, isServed, `${flags.join(' ')}: ${stdout}${stderr}`);
      } finally {
        await server.close();
      }
    }
  });
});

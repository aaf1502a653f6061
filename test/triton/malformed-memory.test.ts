import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { messageCodec } from '../../src/protocol/proto-messages.ts';
import { openRepository } from '../../src/repository/repository.ts';
import { writeTestModels } from './models.ts';
import { tritonServer } from './test-server.ts';

/** The long form: `NEREID_MALFORMED_REQUESTS=100000 node --import tsx --test test/triton/malformed-memory.test.ts`. */
const total = Number(process.env.NEREID_MALFORMED_REQUESTS ?? 2_000);
/** What the heap may be larger by at the end than after the first quarter: a leak of one request's bytes a request is more. */
const growthBytesMax = 8 * 1024 * 1024 + total * 100;
const atOnce = 16;

const models = ['ident', 'batched', 'single', 'chain', 'echoes', 'repeat', 'nope'];
const requests = messageCodec('grpc_service.proto', 'inference.ModelInferRequest');

/** Requests that are wrong in one or more ways, the same each run. */
function malformed(count: number): { model: string; json: Buffer; message: Buffer }[] {
  const dimension = fc.constantFrom(-1, 0, 1, 2, 3, 2 ** 31, 2 ** 53, 1.5);
  const input = fc.record({
    name: fc.constantFrom('IN', 'IN_INT32', 'IN_STRING', 'NOPE'),
    shape: fc.array(dimension, { maxLength: 3 }),
    datatype: fc.constantFrom('INT32', 'BYTES', 'FP16', 'INT33', ''),
    data: fc.oneof(fc.jsonValue(), fc.array(fc.integer(), { maxLength: 4 })),
  });
  const bytes = fc.uint8Array({ maxLength: 32 });
  const one = fc.record({
    model: fc.constantFrom(...models),
    id: fc.string(),
    inputs: fc.array(input, { maxLength: 3 }),
    tail: bytes,
    cut: fc.nat(60),
  });
  return fc.sample(one, { numRuns: count, seed: 7 }).map(({ model, id, inputs, tail, cut }) => {
    const integers = inputs.map(({ data: _, shape, ...rest }) => ({ ...rest, shape: shape.map(Math.floor) }));
    const whole = requests.encode({ model_name: model, id, inputs: integers, raw_input_contents: [tail] });
    const json = Buffer.from(JSON.stringify({ id, inputs }));
    return { model, json, message: Buffer.concat([whole.subarray(0, whole.length - (cut % 8)), tail]) };
  });
}

function heapBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  collect();
  return process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
}

test(`${total} malformed requests are refused, and leave nothing behind`, async (context) => {
  const folder = writeTestModels();
  const engines = { acquire: () => Promise.reject(new Error('these models need no engine')) };
  const repository = await openRepository({ folders: [folder], engines });
  const server = await tritonServer({ repository });
  const agent = new Agent({ keepAlive: true, maxSockets: atOnce });
  context.after(async () => {
    agent.destroy();
    await server.close();
    await repository.close(0);
    rmSync(folder, { recursive: true });
  });
  const http = (model: string, body: Buffer): Promise<number> =>
    new Promise((resolve, reject) => {
      const path = `/v2/models/${model}/infer`;
      const options = { agent, host: '127.0.0.1', port: server.httpPort, method: 'POST', path };
      const sent = request(options, (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode ?? 0));
      });
      sent.on('error', reject);
      sent.end(body);
    });
  const grpc = (message: Buffer): Promise<number> =>
    new Promise((resolve) => {
      const path = '/inference.GRPCInferenceService/ModelInfer';
      const same = (bytes: Buffer) => bytes;
      server.client.makeUnaryRequest(path, same, same, message, (error) => resolve(error?.code ?? 0));
    });
  const cases = malformed(400);
  let sent = 0;
  const run = async (until: number): Promise<void> => {
    const worker = async (): Promise<void> => {
      while (sent < until) {
        const { model, json, message } = cases[sent++ % cases.length] as (typeof cases)[number];
        const status = await http(model, json);
        assert.ok([200, 400, 404, 500, 501].includes(status), `HTTP ${status}: ${json}`);
        const code = await grpc(message);
        assert.ok([0, 3, 5, 12, 13].includes(code), `gRPC ${code}: ${message.toString('hex')}`);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
  };
  await run(total / 4);
  const before = heapBytes();
  await run(total);
  const grown = heapBytes() - before;
  assert.ok(grown < growthBytesMax, `${grown} bytes more after ${total} requests`);
  assert.equal(repository.isReady, true);
});

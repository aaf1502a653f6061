/**
 * npm run bench:triton -- --http-port 18000 --grpc-port 18001 — the same work on `nereid serve --model-repository` and on a genuine
 * tritonserver that listens on these ports with Python twins of the models of test/triton/models.ts, in interleaved runs: HTTP infer
 * (JSON), gRPC infer, and a decoupled gRPC stream. Without the ports only ours is measured.
 *
 * Options: --runs 5 --requests 2000 --concurrency 16
 */
import { rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { parseArgs } from 'node:util';
import { Client, credentials } from '@grpc/grpc-js';
import { messageCodec, type PlainMessage } from '../src/protocol/proto-messages.ts';
import { writeTestModels } from '../test/triton/models.ts';
import { median, ratios, summary } from './support/statistics.ts';
import { startServer } from './triton/server-process.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '5' },
    requests: { type: 'string', default: '2000' },
    concurrency: { type: 'string', default: '16' },
    'http-port': { type: 'string' },
    'grpc-port': { type: 'string' },
  },
});
const runs = Number(values.runs);
const total = Number(values.requests);
const concurrency = Number(values.concurrency);
const elementsPerStream = 100;

const encoder = messageCodec('grpc_service.proto', 'inference.ModelInferRequest');
const requestOf = (model: string, count: number): Buffer => {
  const input = { name: 'IN', datatype: 'INT32', shape: [count] };
  const message: PlainMessage = {
    model_name: model,
    inputs: [input],
    raw_input_contents: [Buffer.alloc(4 * count)],
  };
  return encoder.encode(message);
};
const plain = (bytes: Buffer): Buffer => bytes;
const service = '/inference.GRPCInferenceService';

/** Runs `one` until `count` are done, some at a time; the rate a second. */
async function rate(count: number, one: () => Promise<void>): Promise<number> {
  const startMs = performance.now();
  let left = count;
  const worker = async (): Promise<void> => {
    while (left-- > 0) await one();
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return count / ((performance.now() - startMs) / 1000);
}

const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
const json = JSON.stringify({ inputs: [{ name: 'IN', shape: [3], datatype: 'INT32', data: [1, 2, 3] }] });
function httpInfer(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const options = { agent, port, host: '127.0.0.1', method: 'POST', path: '/v2/models/single/infer' };
    const sent = request(options, (response) => {
      response.resume();
      response.on('end', () =>
        response.statusCode === 200 ? resolve() : reject(new Error(`${response.statusCode}`)),
      );
    });
    sent.on('error', reject);
    sent.end(json);
  });
}

const unary = requestOf('single', 3);
function grpcInfer(client: Client): Promise<void> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(`${service}/ModelInfer`, plain, plain, unary, (error) =>
      error ? reject(error) : resolve(),
    );
  });
}

const repeated = requestOf('repeat', elementsPerStream);
function grpcStream(client: Client): Promise<void> {
  return new Promise((resolve, reject) => {
    const call = client.makeBidiStreamRequest(`${service}/ModelStreamInfer`, plain, plain);
    let messages = 0;
    call.on('data', () => messages++);
    call.on('error', reject);
    call.on('end', () =>
      messages === elementsPerStream ? resolve() : reject(new Error(`${messages} messages`)),
    );
    call.write(repeated);
    call.end();
  });
}

interface Target {
  httpPort: number;
  client: Client;
}

const works: Readonly<Record<string, (target: Target) => Promise<number>>> = {
  'HTTP infer (requests/s)': ({ httpPort }) => rate(total, () => httpInfer(httpPort)),
  'gRPC infer (requests/s)': ({ client }) => rate(total, () => grpcInfer(client)),
  'gRPC stream (responses/s)': async ({ client }) =>
    elementsPerStream * (await rate(Math.ceil(total / 20), () => grpcStream(client))),
};

const open = (httpPort: number, grpcPort: number): Target => ({
  httpPort,
  client: new Client(`127.0.0.1:${grpcPort}`, credentials.createInsecure()),
});

const folder = writeTestModels();
const server = await startServer(['--model-repository', folder, '--log-level', 'error']);
const ours = open(server.httpPort, server.grpcPort);
const isCompared = values['http-port'] !== undefined && values['grpc-port'] !== undefined;
const theirs = isCompared ? open(Number(values['http-port']), Number(values['grpc-port'])) : undefined;
console.log(`${concurrency} at a time, median [least … most] of ${runs} interleaved runs`);
for (const [name, work] of Object.entries(works)) {
  const rates = { ours: [] as number[], theirs: [] as number[] };
  await work(ours);
  if (theirs) await work(theirs);
  for (let run = 0; run < runs; run++) {
    rates.ours.push(await work(ours));
    if (theirs) rates.theirs.push(await work(theirs));
  }
  console.log(`${name}\n  nereid        ${summary(rates.ours, 0)}`);
  if (!theirs) continue;
  const ratio = ratios(rates.ours, rates.theirs);
  console.log(
    `  tritonserver  ${summary(rates.theirs, 0)}\n  ratio         ${summary(ratio, 2)} (median ${median(ratio).toFixed(2)})`,
  );
}
for (const target of [ours, theirs]) target?.client.close();
agent.destroy();
await server.stop();
rmSync(folder, { recursive: true });

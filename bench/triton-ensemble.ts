/**
 * npm run bench:triton-ensemble — what the ensemble adds over the wire: one token for a short text from `ensemble` (tokenize, engine,
 * detokenize) against one token for the same ids from `tensorrt_llm`, on one gRPC connection, in turns; null device at 0 ms.
 *
 * Options: --requests 2000
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client, credentials } from '@grpc/grpc-js';
import { packageRoot } from '../src/base/entry.ts';
import { messageCodec, type PlainMessage } from '../src/protocol/proto-messages.ts';
import { encodeBytes } from '../src/repository/tensor.ts';
import { openTokenizer } from '../src/tokenizer/open.ts';
import { median } from './support/statistics.ts';
import { startServer } from './triton/server-process.ts';

const addedMsMax = 0.5;
const text = 'A river is';

const { values } = parseArgs({ options: { requests: { type: 'string', default: '2000' } } });
const requests = Number(values.requests);
const warmUp = Math.ceil(requests / 4);

const codec = messageCodec('grpc_service.proto', 'inference.ModelInferRequest');
const int32 = (...list: number[]) => Buffer.from(Int32Array.from(list).buffer);
const request = (model: string, tensors: readonly [string, string, number[], Uint8Array][]): Buffer => {
  const message: PlainMessage = {
    model_name: model,
    inputs: tensors.map(([name, datatype, shape]) => ({ name, datatype, shape })),
    raw_input_contents: tensors.map(([, , , data]) => data),
  };
  return codec.encode(message);
};

const tokenizer = await openTokenizer(join(packageRoot, 'models', 'nereid-16m'));
const ids = [...tokenizer.encode(text)];
const asked = {
  ensemble: request('ensemble', [
    ['text_input', 'BYTES', [1, 1], encodeBytes([text])],
    ['max_tokens', 'INT32', [1, 1], int32(1)],
  ]),
  tensorrt_llm: request('tensorrt_llm', [
    ['input_ids', 'INT32', [1, ids.length], int32(...ids)],
    ['input_lengths', 'INT32', [1, 1], int32(ids.length)],
    ['request_output_len', 'INT32', [1, 1], int32(1)],
  ]),
};

const server = await startServer(['nereid-16m', '--device', 'null', '--log-level', 'error']);
const client = new Client(`127.0.0.1:${server.grpcPort}`, credentials.createInsecure());
const same = (bytes: Buffer): Buffer => bytes;
const stream = client.makeBidiStreamRequest('/inference.GRPCInferenceService/ModelStreamInfer', same, same);
let answered: () => void = () => {};
stream.on('data', () => answered());

/** Milliseconds until its one response. */
async function ask(model: keyof typeof asked): Promise<number> {
  const startMs = performance.now();
  await new Promise<void>((resolve) => {
    answered = resolve;
    stream.write(asked[model]);
  });
  return performance.now() - startMs;
}

const times = { ensemble: [] as number[], tensorrt_llm: [] as number[] };
for (let turn = 0; turn < warmUp + requests; turn++) {
  for (const model of ['ensemble', 'tensorrt_llm'] as const) {
    const ms = await ask(model);
    if (turn >= warmUp) times[model].push(ms);
  }
}
stream.end();
client.close();
await server.stop();

const [ensemble, engine] = [median(times.ensemble), median(times.tensorrt_llm)];
const added = ensemble - engine;
console.log(`one token over ModelStreamInfer, one request at a time, p50 of ${requests}`);
console.log(`  tensorrt_llm  ${engine.toFixed(3)} ms\n  ensemble      ${ensemble.toFixed(3)} ms`);
console.log(
  `  added         ${added.toFixed(3)} ms; bar ${addedMsMax} ms: ${added <= addedMsMax ? 'met' : 'NOT met'}`,
);

/**
 * The floor: a bare grpc-js server that streams messages of the same bytes, one to every stream a turn of the event loop as an engine
 * makes them, with no engine, requests or limits. The number of messages is read from the request's third raw tensor.
 */
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import {
  encodeStreamResponse,
  inferRequestCodec,
  type WireInferRequest,
} from '../../src/protocol/triton/messages.ts';

type Call = ServerDuplexStream<WireInferRequest, Buffer>;

const tensor = (name: string, shape: number[]) => ({
  tensor: { name, datatype: 'INT32' as const, shape, data: new Uint8Array(4) },
  isBinary: true,
});
const message = encodeStreamResponse(
  { modelName: 'tensorrt_llm', modelVersion: '1', id: '1' },
  { outputs: [tensor('output_ids', [1, 1, 1]), tensor('sequence_length', [1, 1])], isFinal: false },
);

const active = new Set<() => void>();
let isLooping = false;
function turn(): void {
  for (const write of active) write();
  isLooping = active.size > 0;
  if (isLooping) setImmediate(turn);
}

function serve(call: Call): void {
  call.on('data', ({ rawInputContents }: WireInferRequest) => {
    const tokens = rawInputContents[2]?.readInt32LE() ?? 0;
    let written = 0;
    const write = (): void => {
      call.write(message);
      if (++written < tokens) return;
      active.delete(write);
      call.end();
    };
    active.add(write);
    if (!isLooping) {
      isLooping = true;
      setImmediate(turn);
    }
  });
}

const server = new Server();
server.addService(
  {
    ModelStreamInfer: {
      path: '/inference.GRPCInferenceService/ModelStreamInfer',
      requestStream: true,
      responseStream: true,
      requestSerialize: (request: WireInferRequest) => inferRequestCodec.encode(request),
      requestDeserialize: (bytes: Buffer) => inferRequestCodec.decode(bytes),
      responseSerialize: (bytes: Buffer) => bytes,
      responseDeserialize: (bytes: Buffer) => bytes,
    },
  },
  { ModelStreamInfer: serve },
);
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_error, port) =>
  process.send?.({ port }),
);
process.on('disconnect', () => process.exit(0));

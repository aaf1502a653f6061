/** The benchmark's floor: grpc-js alone, answering `briton.Briton/Infer` with one prepared message a token to every stream a turn. */
import { join } from 'node:path';
import { Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { packageRoot } from '../../src/base/entry.ts';
import { encodeAnswerPart } from '../../src/protocol/briton/messages.ts';

interface BareRequest {
  requestId?: number;
  requestOutputLen?: number;
}

const root = protobuf.loadSync(join(packageRoot, 'proto', 'briton.proto'));
const requestType = root.lookupType('briton.InferenceRequest');
const active = new Set<{ call: ServerWritableStream<BareRequest, object>; left: number }>();
let running = false;

/** One token to every stream, then a turn of the event loop, as an engine's steps come. */
function step(): void {
  for (const stream of active) {
    const { request } = stream.call;
    stream.call.write({
      request_id: Number(request.requestId ?? 0),
      output_text: ' word',
      output_ids: [1234],
      finish_reason: 0,
    });
    if (--stream.left > 0) continue;
    active.delete(stream);
    stream.call.end();
  }
  running = active.size > 0;
  if (running) setImmediate(step);
}

const server = new Server();
server.addService(
  {
    Infer: {
      path: '/briton.Briton/Infer',
      requestStream: false,
      responseStream: true,
      requestSerialize: (message: object) => Buffer.from(requestType.encode(message).finish()),
      requestDeserialize: (bytes: Buffer) =>
        requestType.toObject(requestType.decode(bytes), { longs: Number }) as BareRequest,
      responseSerialize: (message: object) => encodeAnswerPart(message as never),
      responseDeserialize: (bytes: Buffer) => bytes,
    },
  },
  {
    Infer: ((call: ServerWritableStream<BareRequest, object>) => {
      const { requestOutputLen: left = 0 } = call.request;
      active.add({ call, left });
      if (running) return;
      running = true;
      setImmediate(step);
    }) as never,
  },
);
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  process.send?.({ port });
});
process.on('disconnect', () => process.exit(0));

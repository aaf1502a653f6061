/**
 * The stream benchmark's client process: HTTP/2 without a gRPC library, and no more work on messages than counting them, so that the
 * server is what is measured. Four connections share the streams.
 */
import { type ClientHttp2Session, connect } from 'node:http2';
import { messageOf } from '../../src/base/errors.ts';
import { messageCodec } from '../../src/protocol/proto-messages.ts';
import { framed, MessageCounter } from './message-counter.ts';
import type { StreamResult, StreamRun } from './messages.ts';

const connections = 4;
const path = '/inference.GRPCInferenceService/ModelStreamInfer';

const int32 = (...values: number[]) => Buffer.from(Int32Array.from(values).buffer);

/** A token-level request as `inflight_batcher_llm_client.py` makes it. */
function requestOf(tokens: number): Buffer {
  const one = (name: string, datatype: string) => ({ name, datatype, shape: [1, 1] });
  const message = messageCodec('grpc_service.proto', 'inference.ModelInferRequest').encode({
    model_name: 'tensorrt_llm',
    id: '1',
    inputs: [
      { name: 'input_ids', datatype: 'INT32', shape: [1, 4] },
      one('input_lengths', 'INT32'),
      one('request_output_len', 'INT32'),
      one('end_id', 'INT32'),
      one('streaming', 'BOOL'),
    ],
    outputs: [{ name: 'output_ids' }, { name: 'sequence_length' }],
    raw_input_contents: [int32(5, 6, 7, 8), int32(4), int32(tokens), int32(-1), Buffer.from([1])],
  });
  return framed(message);
}

function stream(session: ClientHttp2Session, request: Buffer): Promise<number> {
  return new Promise((resolve, reject) => {
    const call = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const counter = new MessageCounter();
    call.on('data', (chunk: Buffer) => counter.add(chunk));
    call.on('trailers', (trailers) => {
      if (trailers['grpc-status'] !== '0')
        reject(new Error(`${trailers['grpc-status']} ${trailers['grpc-message']}`));
    });
    call.on('end', () => resolve(counter.messages));
    call.on('error', reject);
    call.end(request);
  });
}

async function run({ port, streams, tokens }: StreamRun): Promise<StreamResult> {
  const sessions = Array.from({ length: connections }, () => connect(`http://127.0.0.1:${port}`));
  const request = requestOf(tokens);
  const startMs = performance.now();
  const counts = await Promise.all(
    Array.from({ length: streams }, (_, i) =>
      stream(sessions[i % connections] as ClientHttp2Session, request),
    ),
  );
  const seconds = (performance.now() - startMs) / 1000;
  for (const session of sessions) session.close();
  return { seconds, messages: counts.reduce((sum, count) => sum + count, 0) };
}

process.on('message', (message) => {
  run(message as StreamRun).then(
    (result) => process.send?.(result),
    (error: unknown) => {
      console.error(`client: ${messageOf(error)}`);
      process.exit(1);
    },
  );
});
process.on('disconnect', () => process.exit(0));

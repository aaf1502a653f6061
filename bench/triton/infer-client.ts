/**
 * The client process of `bench:triton`: requests made once, HTTP over bare sockets and gRPC over HTTP/2 without a gRPC library, and no more
 * work on answers than finding their ends, so that the servers are what is measured.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { createConnection, type Socket } from 'node:net';
import { messageOf } from '../../src/base/errors.ts';
import { messageCodec } from '../../src/protocol/proto-messages.ts';
import { framed, MessageCounter } from './message-counter.ts';
import type { InferResult, InferRun } from './messages.ts';

/** Elements of a decoupled request, and so its responses. */
const elementsPerStream = 100;
/** Connections that gRPC calls share. */
const connections = 4;

const requestOf = (model: string, count: number): Buffer =>
  framed(
    messageCodec('grpc_service.proto', 'inference.ModelInferRequest').encode({
      model_name: model,
      inputs: [{ name: 'IN', datatype: 'INT32', shape: [count] }],
      raw_input_contents: [Buffer.alloc(4 * count)],
    }),
  );

/** One caller: does one request after another until told that none is left. */
type Caller = (take: () => boolean) => Promise<void>;

const json = JSON.stringify({ inputs: [{ name: 'IN', shape: [3], datatype: 'INT32', data: [1, 2, 3] }] });
const post = Buffer.from(
  `POST /v2/models/identity/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${json.length}\r\n\r\n${json}`,
);
const headEnd = Buffer.from('\r\n\r\n');

/** The length of the whole answer at the start of these bytes, or undefined while its head is not there. */
function answerLength(bytes: Buffer): number | undefined {
  const end = bytes.indexOf(headEnd);
  if (end < 0) return undefined;
  const head = bytes.toString('latin1', 0, end);
  if (!head.startsWith('HTTP/1.1 200')) throw new Error(head);
  const length = /content-length: (\d+)/i.exec(head)?.[1];
  if (length === undefined) throw new Error(`no length: ${head}`);
  return end + headEnd.length + Number(length);
}

function httpCaller(socket: Socket): Caller {
  return (take) =>
    new Promise((resolve, reject) => {
      let answer: Buffer = Buffer.alloc(0);
      const next = (): void => {
        if (take()) socket.write(post);
        else resolve();
      };
      socket.on('error', reject);
      socket.on('data', (bytes) => {
        answer = answer.length === 0 ? bytes : Buffer.concat([answer, bytes]);
        const length = answerLength(answer);
        if (length === undefined || answer.length < length) return;
        answer = answer.subarray(length);
        next();
      });
      next();
    });
}

function open(session: ClientHttp2Session, method: string): ClientHttp2Stream {
  return session.request({
    ':method': 'POST',
    ':path': `/inference.GRPCInferenceService/${method}`,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
}

/** One call with one request; fails unless so many messages come. */
function callOnce(
  session: ClientHttp2Session,
  method: string,
  request: Buffer,
  expected: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const call = open(session, method);
    const counter = new MessageCounter();
    call.on('data', (chunk: Buffer) => counter.add(chunk));
    call.on('trailers', (trailers) => {
      if (trailers['grpc-status'] !== '0')
        reject(new Error(`${trailers['grpc-status']} ${trailers['grpc-message']}`));
    });
    call.on('end', () =>
      counter.messages === expected ? resolve() : reject(new Error(`${counter.messages} messages`)),
    );
    call.on('error', reject);
    call.end(request);
  });
}

function callAfterCall(
  session: ClientHttp2Session,
  method: string,
  request: Buffer,
  expected: number,
): Caller {
  return async (take) => {
    while (take()) await callOnce(session, method, request, expected);
  };
}

/** One stream that stays open: the next request goes when the answer to the last is here. */
function streamCaller(session: ClientHttp2Session, request: Buffer): Caller {
  return (take) =>
    new Promise((resolve, reject) => {
      const call = open(session, 'ModelStreamInfer');
      const counter = new MessageCounter();
      let sent = 0;
      const next = (): void => {
        if (take()) {
          sent++;
          call.write(request);
        } else call.end();
      };
      call.on('data', (chunk: Buffer) => {
        counter.add(chunk);
        if (counter.messages >= sent) next();
      });
      call.on('end', () =>
        counter.messages === sent ? resolve() : reject(new Error(`${counter.messages}`)),
      );
      call.on('error', reject);
      next();
    });
}

const unary = requestOf('identity', 3);
const repeated = requestOf('repeat', elementsPerStream);

async function run({ work, port, count, concurrency }: InferRun): Promise<InferResult> {
  const sockets: Socket[] = [];
  const sessions: ClientHttp2Session[] = [];
  const callers = Array.from({ length: concurrency }, (_, index): Caller => {
    if (work === 'http') {
      const socket = createConnection({ port, host: '127.0.0.1', noDelay: true });
      sockets.push(socket);
      return httpCaller(socket);
    }
    const session = sessions[index % connections] ?? connect(`http://127.0.0.1:${port}`);
    sessions[index % connections] = session;
    if (work === 'grpc') return callAfterCall(session, 'ModelInfer', unary, 1);
    if (work === 'stream') return streamCaller(session, unary);
    return callAfterCall(session, 'ModelStreamInfer', repeated, elementsPerStream);
  });
  let left = count;
  const startMs = performance.now();
  await Promise.all(callers.map((caller) => caller(() => left-- > 0)));
  const seconds = (performance.now() - startMs) / 1000;
  for (const socket of sockets) socket.destroy();
  for (const session of sessions) session.close();
  return { seconds, answers: work === 'decoupled' ? count * elementsPerStream : count };
}

process.on('message', (message) => {
  run(message as InferRun).then(
    (result) => process.send?.(result),
    (error: unknown) => {
      console.error(`client: ${messageOf(error)}`);
      process.exit(1);
    },
  );
});
process.on('disconnect', () => process.exit(0));

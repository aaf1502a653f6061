import { constants, type ServerHttp2Stream } from 'node:http2';
import { type ServerInterceptingCallInterface, type ServerInterceptor, status } from '@grpc/grpc-js';
import { messageOf } from '../base/errors.ts';
import { decodeBody } from './body-encoding.ts';
import type { ByteHolder } from './byte-budget.ts';
import type { ClientBounds } from './client-bounds.ts';
import { ProtocolError } from './errors.ts';
import { grpcUnpackedMessageBytesMax } from './limits.ts';
import { MessageMeter } from './message-meter.ts';
import type { Upload } from './uploads.ts';

type Bounds = Pick<ClientBounds, 'answers' | 'uploads'>;

/** Bytes of answers between two looks at what all calls keep. */
const lookEveryBytes = 1024 * 1024;
/** A connection on which nothing moves for so long after one of its calls was cut is cut, too: that call's bytes lie in its socket. */
const stillAfterCutMs = 1_000;
const prefixBytes = 5;

/**
 * What grpc-js keeps to itself of a call: nothing else says what its client leaves unread, or lets us bound what a packed message comes to. Another
 * release may call these something else: `grpc-calls.test.ts` says so then.
 */
interface InnermostCall extends ServerInterceptingCallInterface {
  stream: ServerHttp2Stream;
  decompressMessage(message: Buffer, encoding: string): Buffer | Promise<Buffer>;
}

/**
 * The calls of one gRPC server: counts what each of them keeps of memory, answers that its client does not read and messages that arrive,
 * within the bounds for all protocols.
 */
export class GrpcCalls {
  readonly #bounds: Bounds;
  readonly #calls = new Set<Call>();
  readonly #onBegin: (peer: string) => () => void;
  #answeredBytes = 0;

  /** @param onBegin told of each call's connection (`address:port`); returns what is to be told of the call's end */
  constructor(bounds: Bounds, onBegin: (peer: string) => () => void) {
    this.#bounds = bounds;
    this.#onBegin = onBegin;
  }

  /** Sees each call before anything of it is read. It wraps nothing: messages cost no more than without. */
  readonly interceptor: ServerInterceptor = (_method, given) => {
    const innermost = given as InnermostCall;
    const { stream } = innermost;
    innermost.decompressMessage = unpack;
    const onEnd = this.#onBegin(given.getPeer());
    const call = new Call(stream, this.#bounds);
    this.#calls.add(call);
    stream.once('close', () => {
      this.#calls.delete(call);
      call.close();
      onEnd();
    });
    return given as ReturnType<ServerInterceptor>;
  };

  /** An answer of so many bytes goes out. */
  answered(bytes: number): void {
    this.#answeredBytes += bytes;
    if (this.#answeredBytes < lookEveryBytes) return;
    this.#answeredBytes = 0;
    // It is not handed to its stream yet.
    queueMicrotask(() => {
      for (const call of this.#calls) if (call.heldBytes > 0) this.#bounds.answers.update(call);
    });
  }
}

/** A message without its prefix, unpacked where its flag says so; rejects with a status. */
function unpack(message: Buffer, encoding: string): Buffer | Promise<Buffer> {
  const contents = message.subarray(prefixBytes);
  if (message[0] !== 1 || encoding === 'identity') return contents;
  return decodeBody(contents, encoding, grpcUnpackedMessageBytesMax).catch((thrown: unknown) => {
    const code = thrown instanceof ProtocolError ? thrown.code : '';
    throw {
      code:
        code === 'BODY_TOO_LARGE'
          ? status.RESOURCE_EXHAUSTED
          : code === 'CONTENT_ENCODING_UNSUPPORTED'
            ? status.UNIMPLEMENTED
            : status.INTERNAL,
      details: messageOf(thrown),
    };
  });
}

/** One call. */
class Call implements ByteHolder {
  readonly #stream: ServerHttp2Stream;
  readonly #bounds: Bounds;
  readonly #meter = new MessageMeter();
  #upload: Upload | undefined;
  /** Messages that were whole when {@link #upload} began. */
  #uploadNumber = 0;

  constructor(stream: ServerHttp2Stream, bounds: Bounds) {
    this.#stream = stream;
    this.#bounds = bounds;
    stream.on('data', (chunk: Buffer) => this.#received(chunk));
  }

  get heldBytes(): number {
    return this.#stream.writableLength;
  }

  /** Of its connection: a large message is handed over only when all of it is read. */
  get movedBytes(): number {
    return this.#stream.session?.socket?.bytesWritten ?? 0;
  }

  /** Resets the call; and its connection, where nothing moves at all. */
  cut(): void {
    const { session } = this.#stream;
    const moved = this.movedBytes;
    this.#hangUp();
    setTimeout(() => {
      if (session && !session.destroyed && session.socket?.bytesWritten === moved) session.destroy();
    }, stillAfterCutMs).unref();
  }

  close(): void {
    this.#bounds.answers.remove(this);
    this.#upload?.over();
  }

  #hangUp(): void {
    this.#stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    this.#stream.destroy();
  }

  #received(chunk: Buffer): void {
    const meter = this.#meter;
    const before = meter.count === this.#uploadNumber ? meter.partialBytes : 0;
    meter.take(chunk);
    if (this.#upload && meter.count !== this.#uploadNumber) {
      this.#upload.over();
      this.#upload = undefined;
    }
    // Its length is known then; most messages come in one piece and are never counted.
    if (meter.length === 0) return;
    const isNew = this.#upload === undefined;
    this.#upload ??= this.#bounds.uploads.begin(
      {
        pause: () => this.#stream.pause(),
        resume: () => this.#stream.resume(),
        cut: () => this.#hangUp(),
      },
      meter.length,
    );
    this.#uploadNumber = meter.count;
    this.#upload.received(isNew ? meter.partialBytes : meter.partialBytes - before);
  }
}

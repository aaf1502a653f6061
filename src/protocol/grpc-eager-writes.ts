import { ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';
import type { MessageCodec } from './proto-messages.ts';

/**
 * A message of a stream that does not wait for the one before to be on its way. grpc-js hands HTTP/2 one message, waits, and hands it the
 * next; these go to HTTP/2 at once, which puts all that waits into one write. Whoever sends them counts what is not flushed yet.
 */
export class EagerMessage {
  readonly bytes: Buffer;
  /** Called when the peer's flow control has let it go, and when the stream is over. */
  readonly flushed: () => void;

  constructor(bytes: Buffer, flushed: () => void) {
    this.bytes = bytes;
    this.flushed = flushed;
  }
}

/** Messages of a stream that are encoded already, and flushed at once. */
export const eagerCodec: MessageCodec<EagerMessage> = {
  encode: ({ bytes }) => bytes,
  decode: () => {
    throw new Error('a server reads no answers');
  },
};

class EagerCall extends ServerInterceptingCall {
  readonly #next: ConstructorParameters<typeof ServerInterceptingCall>[0];

  constructor(next: ConstructorParameters<typeof ServerInterceptingCall>[0]) {
    super(next);
    this.#next = next;
  }

  override sendMessage(message: unknown, callback: () => void): void {
    if (!(message instanceof EagerMessage)) {
      super.sendMessage(message, callback);
      return;
    }
    this.#next.sendMessage(message, message.flushed);
    callback();
  }
}

/** Lets {@link EagerMessage}s pass; all others go grpc-js's way. */
export const eagerWrites: ServerInterceptor = (_method, call) => new EagerCall(call);

import { Client, credentials, status } from '@grpc/grpc-js';
import { LoadError } from '../errors.ts';

/** Bytes of one message that a server may send. */
const messageBytesMax = 64 * 1024 * 1024;

/** Several connections to one server, in turn: a server limits the streams of one (100 is usual). */
export class GrpcChannels {
  readonly #clients: Client[];
  #next = 0;

  /**
   * @param url `host:port`, with or without a scheme; `https://` and `grpcs://` mean TLS
   * @throws LoadError LOAD_OPTION_INVALID
   */
  constructor(url: string, channels: number) {
    const match = /^(?:(\w+):\/\/)?([^/]+:\d+)\/?$/.exec(url);
    if (!match?.[2])
      throw new LoadError('LOAD_OPTION_INVALID', `'${url}' is no gRPC address; give host:port`);
    const isSecure = match[1] === 'https' || match[1] === 'grpcs';
    const address = match[2];
    this.#clients = Array.from({ length: channels }, () => {
      const options = {
        // grpc-js shares connections of equal channels otherwise.
        'grpc.use_local_subchannel_pool': 1,
        'grpc.max_receive_message_length': messageBytesMax,
        'grpc.max_send_message_length': -1,
      };
      return new Client(address, isSecure ? credentials.createSsl() : credentials.createInsecure(), options);
    });
  }

  next(): Client {
    const client = this.#clients[this.#next % this.#clients.length] as Client;
    this.#next++;
    return client;
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}

/** What a failed call says: `INVALID_ARGUMENT: …`. */
export function callError(error: { code?: number; details?: string; message: string }): string {
  const name = error.code === undefined ? undefined : status[error.code];
  // grpc-js wraps the system's words in its own.
  const said = (error.details || error.message)
    .replace(/^No connection established\. Last error: (?:Error: )?/, '')
    .replace(/\.? Resolution note: ?$/, '');
  return name ? `${name}: ${said}` : said;
}

/** What {@link onCallEnd} needs of a call that answers with a stream. */
interface StreamingCall {
  on(event: 'end', listener: () => void): unknown;
  on(event: 'status', listener: (status: { code: number }) => void): unknown;
}

/** Calls back once a call has ended well: its last message was read and its status is OK, in whichever order grpc-js tells of them. */
export function onCallEnd(call: StreamingCall, done: () => void): void {
  let isRead = false;
  let isOk = false;
  call.on('end', () => {
    isRead = true;
    if (isOk) done();
  });
  call.on('status', ({ code }) => {
    isOk = code === status.OK;
    if (isOk && isRead) done();
  });
}

import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { monotonicMs } from '../../base/monotonic.ts';
import type { DeferredReads } from './deferred-reads.ts';
import { HttpResponseParser, type ResponseHead } from './http-response-parser.ts';

/** Where connections go. */
export interface HttpAddress {
  host: string;
  port: number;
  isSecure: boolean;
}

/** One request on a connection, as its connection tells of it. Times are of when the bytes were read. */
export interface ConnectionListener {
  head(head: ResponseHead): void;
  body(atMs: number, bytes: Buffer): void;
  /** The answer is whole; the connection is already free or gone. */
  end(atMs: number): void;
  /** No whole answer will come. `isUnanswered`: nothing of one came. */
  fail(atMs: number, reason: string, isUnanswered: boolean): void;
}

/** Bytes of one read; a socket that has more is read again. Shared: what was read is copied at once. */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024);

/** One HTTP/1.1 connection: a request at a time, answers read as they come and parsed later. */
export class HttpConnection {
  /** When the server may close it for being idle, on {@link monotonicMs}, as its answers say. */
  idleUntilMs = Number.POSITIVE_INFINITY;
  readonly #socket: Socket;
  readonly #reads: DeferredReads;
  readonly #onFree: (connection: HttpConnection) => void;
  #listener: ConnectionListener | undefined;
  #parser: HttpResponseParser | undefined;
  #head: ResponseHead | undefined;
  #hasBytes = false;
  #requests = 0;
  #isGone = false;
  #atMs = 0;

  /** @param onFree the answer is whole and the connection may carry another request */
  constructor(address: HttpAddress, reads: DeferredReads, onFree: (connection: HttpConnection) => void) {
    this.#reads = reads;
    this.#onFree = onFree;
    this.#socket = open(address, (bytes) => this.#read(bytes));
    this.#socket.setNoDelay(true);
    const lost = (reason: string): void => {
      const atMs = monotonicMs();
      // In line behind what was read before it.
      this.#reads.push(() => this.#lost(atMs, reason));
    };
    this.#socket.on('error', (error) => lost(error.message));
    this.#socket.on('end', () => lost('the server closed the connection'));
    this.#socket.on('close', () => lost('the server closed the connection'));
  }

  /** Whether it may take a request now. */
  get isUsable(): boolean {
    return !this.#isGone && this.#socket.writable && monotonicMs() < this.idleUntilMs;
  }

  /** Requests that it has carried. */
  get requests(): number {
    return this.#requests;
  }

  /** Sends a whole request. Only while no other is in flight. */
  send(request: string, listener: ConnectionListener): void {
    this.#requests++;
    this.#hasBytes = false;
    this.#head = undefined;
    this.#listener = listener;
    this.#parser = new HttpResponseParser({
      head: (head) => {
        this.#head = head;
        listener.head(head);
      },
      body: (bytes) => listener.body(this.#atMs, bytes),
      end: () => {},
    });
    this.#socket.write(request);
  }

  /** Drops it; its request's listener hears no more. */
  destroy(): void {
    this.#isGone = true;
    this.#listener = undefined;
    this.#socket.destroy();
  }

  #read(bytes: Buffer): void {
    const atMs = monotonicMs();
    this.#reads.push(() => this.#parse(atMs, bytes));
  }

  #parse(atMs: number, bytes: Buffer): void {
    const parser = this.#parser;
    if (!this.#listener || !parser) {
      // Nothing was asked: such a connection cannot be trusted with a next request.
      this.destroy();
      return;
    }
    this.#hasBytes = true;
    this.#atMs = atMs;
    const problem = parser.push(bytes);
    // The listener may have dropped the connection meanwhile.
    if (!this.#listener) return;
    if (problem !== undefined && !parser.isDone) this.#fail(atMs, `the answer is no HTTP: ${problem}`);
    else if (parser.isDone) this.#whole(atMs, problem === undefined);
  }

  /** The answer is whole. */
  #whole(atMs: number, isClean: boolean): void {
    const listener = this.#listener;
    this.#listener = undefined;
    if (!isClean || this.#isGone || this.#head?.isReusable !== true) this.destroy();
    else {
      const seconds = /timeout=(\d+)/.exec(this.#head.headers.get('keep-alive') ?? '')?.[1];
      // A second early: what is sent while the server closes is lost.
      this.idleUntilMs =
        seconds === undefined ? Number.POSITIVE_INFINITY : atMs + Math.max(0, Number(seconds) - 1) * 1000;
      this.#onFree(this);
    }
    listener?.end(atMs);
  }

  #lost(atMs: number, reason: string): void {
    this.#isGone = true;
    if (!this.#listener) this.destroy();
    else if (this.#parser?.close()) this.#whole(atMs, false);
    else this.#fail(atMs, this.#hasBytes ? `${reason} in the middle of the answer` : reason);
  }

  #fail(atMs: number, reason: string): void {
    const listener = this.#listener;
    this.destroy();
    listener?.fail(atMs, reason, !this.#hasBytes);
  }
}

/** A plain connection hands over its reads without a stream between; TLS has none such. */
function open({ host, port, isSecure }: HttpAddress, onBytes: (bytes: Buffer) => void): Socket {
  if (isSecure) {
    const servername = /^[\d.]+$|:/.test(host) ? {} : { servername: host };
    return connectTls({ host, port, ALPNProtocols: ['http/1.1'], ...servername }).on('data', onBytes);
  }
  const callback = (length: number): boolean => {
    onBytes(Buffer.from(readBuffer.subarray(0, length)));
    return true;
  };
  return connectTcp({ host, port, onread: { buffer: readBuffer, callback } });
}

import type { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { streamBufferBytesMax } from '../base/limits.ts';
import { phases } from '../trace/phases.ts';
import { threadTracer } from '../trace/process-tracer.ts';
import { connectionOf } from './connections.ts';

/**
 * Frames gathered for one write at most. Only an engine that runs far ahead of this process gets here; its readers should still see
 * a stream and not lumps.
 */
const gatheredLengthMax = 4096;

/**
 * Streams of one server whose frames wait to be sent. They are sent once a turn of the event loop, after everything that arrived
 * in it: one write (and one system call) a stream, however many steps of the engine the turn brought.
 */
let waiting: EventStream[] = [];

function sendWaiting(): void {
  const streams = waiting;
  waiting = [];
  for (const stream of streams) stream.flushQueued();
}

/** How a stream is bounded, and who hears of its early end. */
export interface EventStreamOptions {
  /** Bytes a slow reader may leave unread. */
  bufferBytesMax?: number;
  /** The client left, or reads too slowly and was cut off. Once; not after `end`. */
  onAbort(reason: 'client-closed' | 'reader-too-slow'): void;
}

/**
 * A long HTTP response made of small text frames (server-sent events), written past Node's `ServerResponse`: its `write` makes four
 * socket writes of a chunk and costs as much as everything else a token needs. The head and the end still go through it, so that
 * keep-alive, pipelining and its life cycle stay Node's.
 */
export class EventStream {
  readonly #response: ServerResponse;
  readonly #bufferBytesMax: number;
  readonly #onAbort: EventStreamOptions['onAbort'];
  /** The socket to write chunks to by ourselves; undefined where only Node may frame (HTTP/1.0, a pipelined response not yet its turn). */
  #socket: Socket | undefined;
  readonly #chunked: boolean;
  /** The engine's id of the request that it answers, for the tracer; −1 until it is known. */
  requestId = -1;
  #pending = '';
  #queued = false;
  #over = false;

  /** @param response hijacked from fastify; nothing may have been sent */
  constructor(request: IncomingMessage, response: ServerResponse, options: EventStreamOptions) {
    this.#response = response;
    this.#chunked = request.httpVersionMajor === 1 && request.httpVersionMinor === 1;
    this.#bufferBytesMax = options.bufferBytesMax ?? streamBufferBytesMax;
    this.#onAbort = options.onAbort;
    response.on('close', this.#onClose);
    response.on('error', this.#onClose);
    if (request.socket.destroyed) queueMicrotask(this.#onClose);
  }

  /** Sends the status and the headers of an event stream. */
  open(headers: Record<string, string> = {}, status = 200): void {
    if (this.#over) return;
    this.#response.writeHead(status, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      // nginx and others must not gather what is meant to arrive token by token.
      'x-accel-buffering': 'no',
      ...headers,
    });
    this.#response.flushHeaders();
    const { socket } = this.#response;
    // Not in fastify's `inject()`, which gathers what goes through the response.
    if (!(socket instanceof Socket)) return;
    socket.setNoDelay(true);
    if (this.#chunked) this.#socket = socket;
  }

  /** Adds whole frames; they leave at the end of this turn of the event loop. */
  write(frames: string): void {
    if (this.#over) return;
    this.#pending += frames;
    if (this.#pending.length >= gatheredLengthMax) {
      this.flush();
      return;
    }
    if (this.#queued) return;
    this.#queued = true;
    if (waiting.push(this) === 1) setImmediate(sendWaiting);
  }

  /** Sends what is pending and ends the response. */
  end(lastFrames = ''): void {
    if (this.#over) return;
    this.#pending += lastFrames;
    this.flush();
    if (this.#over) return;
    this.#over = true;
    this.#response.end();
  }

  /** Leaves the response to the caller: nothing more is sent or watched here. */
  abandon(): void {
    this.#over = true;
    this.#pending = '';
  }

  /** {@link flush} at the end of a turn. */
  flushQueued(): void {
    this.#queued = false;
    this.flush();
  }

  /** Sends what is pending now. */
  flush(): void {
    if (this.#over || this.#pending === '') return;
    const frames = this.#pending;
    this.#pending = '';
    const socket = this.#socket;
    // `writable` is false once the client has half-closed: Node ends the socket then.
    if (socket && !socket.writable) {
      this.#abort('client-closed');
      return;
    }
    threadTracer.begin(phases.sendResponse, this.requestId);
    if (socket) socket.write(`${Buffer.byteLength(frames).toString(16)}\r\n${frames}\r\n`);
    else this.#response.write(frames);
    threadTracer.end(phases.sendResponse, this.requestId);
    const unread = socket ? socket.writableLength : this.#response.writableLength;
    if (unread > this.#bufferBytesMax) this.#abort('reader-too-slow');
    else if (unread > 0) connectionOf(this.#response.req.socket)?.account();
  }

  readonly #onClose = (): void => {
    if (!this.#over) this.#abort('client-closed');
  };

  #abort(reason: 'client-closed' | 'reader-too-slow'): void {
    this.#over = true;
    this.#pending = '';
    this.#response.destroy();
    this.#onAbort(reason);
  }
}

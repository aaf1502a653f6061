import { connect, type Socket } from 'node:net';
import { queuedRequestsMax } from '../../base/limits.ts';
import type { AdapterDirectory } from '../adapters/adapter.ts';
import type { EngineClient, RequestHandle } from '../client.ts';
import { RuntimeError } from '../errors.ts';
import { guardedListener } from '../guarded-listener.ts';
import type { SequenceEvent } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';
import type { EngineDescription, EngineStatistics } from '../requests/statistics.ts';
import { validateRequest } from '../requests/validate.ts';
import { nothingKnown, PrefixView } from '../routing/prefix-view.ts';
import { isEngineMessage } from './check-messages.ts';
import { readFrames, writeFrame, writeInFrames } from './frames.ts';
import { HeldEvents } from './held-events.ts';
import {
  type AdapterCommand,
  type CommandMessage,
  type EngineMessage,
  type HelloMessage,
  unpackEvents,
} from './messages.ts';
import { RemoteAdapters } from './remote-adapters.ts';

/** Pause before the first and between later attempts to reach an engine that is not there (yet, or again). */
const reconnectMs = { first: 20, max: 100 };

interface RunningRequest {
  listener: (event: SequenceEvent) => void;
  /** Indexes of the sequences without a `finish` so far. */
  open: Set<number>;
  /** Whether it was told of rows that lie in a file, which the engine keeps until they were read. */
  hasOutputs: boolean;
}

/**
 * An {@link EngineClient} over the socket of an engine process. It reconnects for ever: while the engine is away `ready` is false,
 * new requests are refused, and those that were running have ended with an error event. The supervisor decides about restarts.
 */
export class RemoteEngine implements EngineClient {
  readonly #socketPath: string;
  readonly #running = new Map<number, RunningRequest>();
  #outbox: CommandMessage = { submits: [], cancels: [] };
  #flushQueued = false;
  #socket: Socket | undefined;
  #hello: HelloMessage | undefined;
  #statistics: EngineStatistics | undefined;
  #counter = 0;
  #retryMs = reconnectMs.first;
  #retryTimer: NodeJS.Timeout | undefined;
  #closed = false;
  #trouble: string | undefined;
  #draining = false;
  /** How often an engine has introduced itself. */
  #hellos = 0;
  #waiters: (() => void)[] = [];
  #onIdle: (() => void) | undefined;
  #prefixes: PrefixView | undefined;
  readonly #adapters = new RemoteAdapters((command) => this.#sendAdapters(command));
  readonly #held = new HeldEvents({
    deliver: (event) => this.#deliver(event),
    failed: (requestId, { code, kind, message }) => {
      this.#cancel(requestId, undefined);
      this.#failRequest(requestId, { code, kind, message });
    },
  });

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
    this.#connect();
  }

  get ready(): boolean {
    return this.#socket !== undefined && this.#hello !== undefined && !this.#draining;
  }

  get engines(): { ready: number; restarts: number } {
    return { ready: this.ready ? 1 : 0, restarts: Math.max(0, this.#hellos - 1) };
  }

  get notReadyReason(): string | undefined {
    return this.ready ? undefined : this.#trouble;
  }

  get adapters(): AdapterDirectory | undefined {
    return this.#adapters.isServed ? this.#adapters : undefined;
  }

  /** Resolves at the first hello, and at once while connected. */
  whenReady(): Promise<void> {
    if (this.ready) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** @throws RuntimeError `ENGINE_UNAVAILABLE` before the first hello (wait for {@link whenReady}) */
  get description(): EngineDescription {
    return this.#knownHello().description;
  }

  statistics(): EngineStatistics {
    return this.#statistics ?? this.#knownHello().statistics;
  }

  /** Requests of this client with sequences still open. */
  get inFlight(): number {
    return this.#running.size;
  }

  submit(request: Omit<GenerationRequest, 'id'>, listener: (event: SequenceEvent) => void): RequestHandle {
    if (this.#draining)
      throw new RuntimeError('SHUTTING_DOWN', 'the server is shutting down; send the request elsewhere');
    const hello = this.#hello;
    if (!hello || !this.#socket) {
      const reason = this.#trouble ?? 'the engine is starting or restarting; try again in a moment';
      throw new RuntimeError('ENGINE_UNAVAILABLE', reason);
    }
    if (this.#running.size >= queuedRequestsMax) {
      const problem = `${queuedRequestsMax} requests are already queued or running (queuedRequestsMax)`;
      throw new RuntimeError('QUEUE_FULL', `${problem}; try again later`);
    }
    const id = hello.firstRequestId + this.#counter++;
    const whole: GenerationRequest = { ...request, id };
    validateRequest(whole, hello.description);
    const open = new Set(Array.from({ length: request.sequences }, (_, sequence) => sequence));
    this.#running.set(id, {
      listener: guardedListener(listener, () => this.#cancel(id, undefined)),
      open,
      hasOutputs: false,
    });
    this.#outbox.submits.push(whole);
    this.#flushSoon();
    return { id, cancel: (sequence) => this.#cancel(id, sequence) };
  }

  watchPrefixes(): PrefixView {
    if (!this.#prefixes) {
      this.#prefixes = new PrefixView();
      if (this.#socket) writeFrame(this.#socket, { submits: [], cancels: [], watchPrefixes: true });
    }
    return this.#prefixes;
  }

  /** One that is starting has nothing to give back. */
  releaseRetained(): void {
    if (this.#socket) writeFrame(this.#socket, { submits: [], cancels: [], releaseRetained: true });
  }

  /** The engine listens now: it is not left waiting for the next attempt. */
  reconnect(): void {
    if (this.#closed || this.#retryTimer === undefined) return;
    clearTimeout(this.#retryTimer);
    this.#connect();
  }

  /** The engine is away for longer; requests are told why. Undefined: it is back. */
  setTrouble(reason: string | undefined): void {
    this.#trouble = reason;
  }

  async close(options: { drainTimeoutMs?: number } = {}): Promise<void> {
    if (this.#closed) return;
    this.#draining = true;
    const { drainTimeoutMs = 0 } = options;
    if (this.#running.size > 0 && drainTimeoutMs > 0) {
      let timer: NodeJS.Timeout | undefined;
      await Promise.race([
        new Promise<void>((resolve) => {
          this.#onIdle = resolve;
        }),
        new Promise<void>((resolve) => {
          timer = setTimeout(resolve, drainTimeoutMs);
        }),
      ]);
      clearTimeout(timer);
    }
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    this.#socket?.destroy();
    this.#failRunning('the server shut down before the request was done');
  }

  #knownHello(): HelloMessage {
    if (this.#hello) return this.#hello;
    throw new RuntimeError('ENGINE_UNAVAILABLE', 'the engine has not started yet; wait for whenReady()');
  }

  #cancel(id: number, sequence: number | undefined): void {
    if (!this.#running.has(id)) return;
    this.#outbox.cancels.push(sequence === undefined ? { id } : { id, sequence });
    this.#flushSoon();
  }

  /** Everything that one turn of the event loop asks for goes in one frame. */
  #flushSoon(): void {
    if (this.#flushQueued) return;
    this.#flushQueued = true;
    queueMicrotask(() => {
      this.#flushQueued = false;
      const message = this.#outbox;
      this.#outbox = { submits: [], cancels: [] };
      if (this.#socket) this.#send(this.#socket, message);
    });
  }

  #send(socket: Socket, { submits, cancels }: CommandMessage): void {
    const refuse = ({ id }: GenerationRequest, error: RuntimeError): void => {
      this.#failRequest(id, { code: error.code, kind: error.kind, message: error.message });
    };
    if (submits.length > 0)
      writeInFrames(socket, submits, (part) => ({ submits: part, cancels: [] }), refuse);
    if (cancels.length > 0) writeFrame(socket, { submits: [], cancels });
  }

  #sendAdapters(command: AdapterCommand): boolean {
    if (!this.#socket) return false;
    writeFrame(this.#socket, { submits: [], cancels: [], adapters: [command] });
    return true;
  }

  #connect(): void {
    this.#retryTimer = undefined;
    const socket = connect(this.#socketPath);
    socket.setNoDelay(true);
    readFrames(socket, (value) => {
      if (isEngineMessage(value)) this.#receive(socket, value);
      else socket.destroy(new Error('what came is no message of an engine'));
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#lost(socket));
  }

  #lost(socket: Socket): void {
    if (this.#socket === socket) {
      this.#socket = undefined;
      this.#prefixes?.change(nothingKnown);
      this.#adapters.lost();
      this.#failRunning(
        'the engine stopped while this request ran; it is being restarted, send the request again',
      );
    }
    if (this.#closed) return;
    this.#retryTimer = setTimeout(() => this.#connect(), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, reconnectMs.max);
  }

  #receive(socket: Socket, message: EngineMessage): void {
    if (message.kind === 'hello') {
      // Said twice it would give out ids again that are in use.
      if (this.#socket === socket) return;
      this.#hellos++;
      this.#hello = message;
      this.#counter = 0;
      this.#statistics = message.statistics;
      this.#socket = socket;
      this.#adapters.hello(message.adapters);
      if (this.#prefixes) writeFrame(socket, { submits: [], cancels: [], watchPrefixes: true });
      this.#retryMs = reconnectMs.first;
      for (const resolve of this.#waiters.splice(0)) resolve();
      return;
    }
    if (message.kind === 'adapters') {
      this.#adapters.receive(message);
      return;
    }
    if (message.kind === 'prefixes') {
      this.#prefixes?.change(message);
      return;
    }
    if (message.statistics) this.#statistics = message.statistics;
    for (const event of unpackEvents(message)) if (!this.#held.hold(event)) this.#deliver(event);
  }

  #deliver(event: SequenceEvent): void {
    const running = this.#running.get(event.requestId);
    // A sequence that has ended hears no more, whatever comes late or twice.
    if (!running?.open.has(event.sequence)) return;
    if (event.outputs) running.hasOutputs = true;
    if (event.finish) {
      running.open.delete(event.sequence);
      if (running.open.size === 0) this.#end(event.requestId, running);
    }
    running.listener(event);
    if (this.#running.size === 0) this.#onIdle?.();
  }

  #end(requestId: number, { hasOutputs }: RunningRequest): void {
    this.#running.delete(requestId);
    if (hasOutputs && this.#socket) {
      writeFrame(this.#socket, { submits: [], cancels: [], outputsRead: [requestId] });
    }
  }

  #failRunning(message: string): void {
    const error = { code: 'ENGINE_UNAVAILABLE', kind: 'unavailable', message };
    for (const requestId of [...this.#running.keys()]) this.#failRequest(requestId, error);
  }

  #failRequest(requestId: number, error: NonNullable<SequenceEvent['error']>): void {
    for (const sequence of [...(this.#running.get(requestId)?.open ?? [])]) {
      this.#deliver({ requestId, sequence, tokens: [], finish: 'error', error });
    }
  }
}

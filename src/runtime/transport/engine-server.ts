import { createServer, type Server, type Socket } from 'node:net';
import { messageOf, NereidError } from '../../base/errors.ts';
import type { AdapterCache } from '../adapters/adapter-cache.ts';
import { adaptersUnsupported, type RuntimeError } from '../errors.ts';
import type { EngineCore } from '../loop/engine-core.ts';
import type { OutputStore } from '../outputs/output-store.ts';
import type { SequenceEvent } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';
import { isCommandMessage } from './check-messages.ts';
import { readFrames, writeFrame, writeInFrames } from './frames.ts';
import {
  type AdapterCommand,
  type AdaptersMessage,
  type CommandMessage,
  type ErrorText,
  packEvents,
  packPrefixes,
} from './messages.ts';
import { ConnectionNumbers, connectionOf, requestIdsPerConnection } from './request-ids.ts';

/** Unread bytes that a front end may leave before it counts as dead: it is disconnected and its requests are cancelled. */
export const frontEndBufferBytesMax = 256 * 1024 * 1024;

/** Statistics ride along with a step's events at most this often, and whenever the engine falls idle. */
export const statisticsIntervalMs = 100;

/** Signs of life for the supervisor. */
export const heartbeatIntervalMs = 1_000;

interface Connection {
  number: number;
  socket: Socket;
  /** Ids of its requests go up; one below this was used already. */
  nextRequestId: number;
  /** Ids of requests with sequences still running, with how many. */
  running: Map<number, number>;
  statisticsSentMs: number;
  /** Requests whose rows it was told where to read, and has not read yet. */
  readsOutputs: Set<number>;
  /** Whether it wants to know what the KV cache knows. */
  watchesPrefixes: boolean;
}

/**
 * Serves an {@link EngineCore} to any number of front ends over a Unix-domain socket (a named pipe on Windows), and drives its
 * loop: one `step()` a turn of the event loop while there is work, so that the inbox is drained between steps; nothing runs when idle.
 */
export class EngineServer {
  readonly #core: EngineCore;
  readonly #server: Server;
  readonly #connections = new Map<number, Connection>();
  readonly #onFatal: (error: unknown) => void;
  readonly #onHeartbeat: (busy: boolean) => void;
  readonly #adapters: AdapterCache | undefined;
  readonly #outputs: OutputStore | undefined;
  #heartbeatMs = 0;
  readonly #numbers = new ConnectionNumbers();
  #looping = false;

  /**
   * @param makeCore is given the sink for each step's events, and what to call when something became runnable by itself
   * @param onFatal the loop cannot go on; the process should end
   * @param onHeartbeat about once a {@link heartbeatIntervalMs} while stepping, and when the engine falls idle
   * @param adapters the core's, where it serves any
   * @param outputs the core's: where front ends read what is too large for frames
   */
  constructor(
    makeCore: (emit: (events: SequenceEvent[]) => void, onRunnable: () => void) => EngineCore,
    onFatal: (error: unknown) => void,
    onHeartbeat: (busy: boolean) => void,
    adapters?: AdapterCache,
    outputs?: OutputStore,
  ) {
    this.#core = makeCore(
      (events) => this.#dispatch(events),
      () => this.#wake(),
    );
    this.#onFatal = onFatal;
    this.#onHeartbeat = onHeartbeat;
    this.#adapters = adapters;
    this.#outputs = outputs;
    if (adapters) adapters.onChange = () => this.#tellAdapters();
    this.#server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
  }

  listen(socketPath: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(socketPath, resolve);
    });
  }

  close(): void {
    this.#server.close();
    for (const connection of this.#connections.values()) connection.socket.destroy();
  }

  #accept(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    const granted = this.#numbers.take();
    if (!granted) {
      // It tries again later, as for an engine that is not there.
      socket.destroy();
      return;
    }
    const { number, firstRequestId } = granted;
    const connection: Connection = {
      number,
      socket,
      nextRequestId: firstRequestId,
      running: new Map(),
      statisticsSentMs: 0,
      readsOutputs: new Set(),
      watchesPrefixes: false,
    };
    this.#connections.set(number, connection);
    socket.on('close', () => this.#disconnect(connection));
    readFrames(socket, (value) => {
      if (isCommandMessage(value) && ownIds(connection, value)) this.#receive(connection, value);
      else socket.destroy(new Error('what came is no message of a front end'));
    });
    writeFrame(socket, {
      kind: 'hello',
      firstRequestId,
      description: this.#core.description,
      statistics: this.#core.statistics(),
      ...(this.#adapters && { adapters: this.#adapters.list() }),
    });
  }

  /** A front end left: what it asked for is cancelled, so that nothing runs for nobody. */
  #disconnect(connection: Connection): void {
    this.#connections.delete(connection.number);
    this.#numbers.giveBack(connection.number, connection.nextRequestId);
    for (const id of connection.running.keys()) this.#core.cancel(id);
    for (const id of connection.readsOutputs) this.#outputs?.settle(id);
    this.#wake();
  }

  #receive(connection: Connection, message: CommandMessage): void {
    const { submits, cancels, watchPrefixes, releaseRetained, adapters, outputsRead } = message;
    for (const command of adapters ?? []) void this.#adapt(connection, command);
    if (watchPrefixes) this.#watchPrefixes(connection);
    if (releaseRetained) this.#core.releaseRetained();
    for (const id of outputsRead ?? []) this.#settleOutputs(connection, id);
    for (const request of submits) this.#submit(connection, request);
    // Requests are not asked whose they are, so that a front end may stop what another one started.
    for (const { id, sequence } of cancels) this.#core.cancel(id, sequence);
    this.#wake();
  }

  #submit(connection: Connection, request: GenerationRequest): void {
    connection.running.set(request.id, request.sequences);
    try {
      this.#core.submit(request);
    } catch (thrown) {
      const error = errorText(thrown);
      const refused: SequenceEvent[] = [];
      for (let sequence = 0; sequence < request.sequences; sequence++) {
        refused.push({ requestId: request.id, sequence, tokens: [], finish: 'error', error });
      }
      this.#dispatch(refused);
    }
  }

  /** An ended request's rows were read. */
  #settleOutputs({ running, readsOutputs }: Connection, id: number): void {
    if (!running.has(id) && readsOutputs.delete(id)) this.#outputs?.settle(id);
  }

  /** Does what a front end wishes about adapters, and says what became of it. */
  async #adapt({ socket }: Connection, { number, load, unload }: AdapterCommand): Promise<void> {
    let error: ErrorText | undefined;
    try {
      if (!this.#adapters) throw adaptersUnsupported(this.#core.description.device);
      if (load) await this.#adapters.load(load);
      else await this.#adapters.unload(unload ?? '');
    } catch (thrown) {
      error = errorText(thrown);
    }
    const reply = error ? { number, error } : { number };
    const message: AdaptersMessage = { kind: 'adapters', list: this.#adapters?.list() ?? [], reply };
    if (!socket.destroyed) writeFrame(socket, message);
  }

  /** All front ends learn what there is now. */
  #tellAdapters(): void {
    const message: AdaptersMessage = { kind: 'adapters', list: this.#adapters?.list() ?? [] };
    for (const { socket } of this.#connections.values()) writeFrame(socket, message);
  }

  /** Sends everything that the KV cache knows; what changes follows with the steps. */
  #watchPrefixes(connection: Connection): void {
    // What changed so far is in the snapshot and must not follow it.
    this.#sendPrefixes();
    connection.watchesPrefixes = true;
    const stored = [...this.#core.knownPrefixes];
    for (const message of packPrefixes({ stored, removed: [] }, true)) writeFrame(connection.socket, message);
  }

  /** Tells who asked for it what the KV cache has learnt and forgotten since the last time. */
  #sendPrefixes(): void {
    const watching = [...this.#connections.values()].filter((each) => each.watchesPrefixes);
    const changes = watching.length > 0 ? this.#core.takeKvChanges() : undefined;
    for (const message of changes ? packPrefixes(changes) : []) {
      for (const { socket } of watching) writeFrame(socket, message);
    }
  }

  #wake(): void {
    if (this.#looping || !this.#core.hasRunnable) return;
    this.#looping = true;
    this.#beat(true);
    setImmediate(() => void this.#turn());
  }

  async #turn(): Promise<void> {
    try {
      const step = this.#core.step();
      if (step) await step;
    } catch (thrown) {
      this.#onFatal(thrown);
      return;
    }
    this.#sendPrefixes();
    if (!this.#core.hasRunnable) {
      this.#looping = false;
      this.#beat(false);
      this.#broadcastStatistics();
    } else {
      if (performance.now() - this.#heartbeatMs >= heartbeatIntervalMs) this.#beat(true);
      setImmediate(() => void this.#turn());
    }
  }

  #beat(busy: boolean): void {
    this.#heartbeatMs = performance.now();
    this.#onHeartbeat(busy);
  }

  /** Routes one step's events: one frame for each front end that has any. */
  #dispatch(events: SequenceEvent[]): void {
    const groups = groupByConnection(events);
    const connections = [...groups.keys()].map((number) => this.#connections.get(number));
    for (const connection of connections) connection?.socket.cork();
    // Before the events: who hears of a request's first token knows already that its prompt is known.
    this.#sendPrefixes();
    for (const [number, own] of groups) {
      const connection = this.#connections.get(number);
      if (!connection) continue;
      for (const event of own) {
        if (event.finish) settle(connection, event.requestId);
        if (event.outputs) connection.readsOutputs.add(event.requestId);
      }
      this.#send(connection, own);
    }
    for (const connection of connections) connection?.socket.uncork();
  }

  #send(connection: Connection, events: SequenceEvent[]): void {
    const nowMs = performance.now();
    const isDue = nowMs - connection.statisticsSentMs >= statisticsIntervalMs;
    if (isDue) connection.statisticsSentMs = nowMs;
    const statistics = isDue ? this.#core.statistics() : undefined;
    writeInFrames(
      connection.socket,
      events,
      (part) => packEvents(part, statistics),
      (event, error) => this.#replaceEvent(connection, event, error),
    );
    if (connection.socket.writableLength > frontEndBufferBytesMax) connection.socket.destroy();
  }

  /** An event that fits no frame (log-probabilities of a huge prompt) fails its sequence alone. */
  #replaceEvent(connection: Connection, { requestId, sequence }: SequenceEvent, error: RuntimeError): void {
    const { code, kind, message } = error;
    const failed: SequenceEvent = {
      requestId,
      sequence,
      tokens: [],
      finish: 'error',
      error: { code, kind, message },
    };
    this.#core.cancel(requestId, sequence);
    writeFrame(connection.socket, packEvents([failed]));
  }

  #broadcastStatistics(): void {
    const message = packEvents([], this.#core.statistics());
    for (const connection of this.#connections.values()) writeFrame(connection.socket, message);
  }
}

function errorText(thrown: unknown): ErrorText {
  if (thrown instanceof NereidError) {
    const { code, kind, message } = thrown;
    return { code, kind, message };
  }
  return { code: 'ENGINE_FAILED', kind: 'internal', message: messageOf(thrown) };
}

/** Whether requests carry ids of this connection that it has not used before; notes which it has used now. */
function ownIds(connection: Connection, { submits }: CommandMessage): boolean {
  const end = (connection.number + 1) * requestIdsPerConnection;
  for (const { id } of submits) {
    if (id < connection.nextRequestId || id >= end) return false;
    connection.nextRequestId = id + 1;
  }
  return true;
}

function settle(connection: Connection, requestId: number): void {
  const left = (connection.running.get(requestId) ?? 0) - 1;
  if (left > 0) connection.running.set(requestId, left);
  else connection.running.delete(requestId);
}

function groupByConnection(events: SequenceEvent[]): Map<number, SequenceEvent[]> {
  const groups = new Map<number, SequenceEvent[]>();
  for (const event of events) {
    const number = connectionOf(event.requestId);
    const group = groups.get(number);
    if (group) group.push(event);
    else groups.set(number, [event]);
  }
  return groups;
}

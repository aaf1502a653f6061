import { createServer, type Server, type Socket } from 'node:net';
import { messageOf, NereidError } from '../../base/errors.ts';
import type { RuntimeError } from '../errors.ts';
import type { EngineCore } from '../loop/engine-core.ts';
import type { SequenceEvent } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';
import { readFrames, writeFrame, writeInFrames } from './frames.ts';
import { type CommandMessage, packEvents } from './messages.ts';

/** Request ids of one connection start here times its number, so that an id names its connection. */
export const requestIdsPerConnection = 2 ** 40;

/** Unread bytes that a front end may leave before it counts as dead: it is disconnected and its requests are cancelled. */
export const frontEndBufferBytesMax = 256 * 1024 * 1024;

/** Statistics ride along with a step's events at most this often, and whenever the engine falls idle. */
export const statisticsIntervalMs = 100;

/** Signs of life for the supervisor. */
export const heartbeatIntervalMs = 1_000;

interface Connection {
  number: number;
  socket: Socket;
  /** Ids of requests with sequences still running, with how many. */
  running: Map<number, number>;
  statisticsSentMs: number;
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
  #heartbeatMs = 0;
  #nextConnection = 0;
  #looping = false;

  /**
   * @param makeCore is given the sink for each step's events, and what to call when something became runnable by itself
   * @param onFatal the loop cannot go on; the process should end
   * @param onHeartbeat about once a {@link heartbeatIntervalMs} while stepping, and when the engine falls idle
   */
  constructor(
    makeCore: (emit: (events: SequenceEvent[]) => void, onRunnable: () => void) => EngineCore,
    onFatal: (error: unknown) => void,
    onHeartbeat: (busy: boolean) => void,
  ) {
    this.#core = makeCore(
      (events) => this.#dispatch(events),
      () => this.#wake(),
    );
    this.#onFatal = onFatal;
    this.#onHeartbeat = onHeartbeat;
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
    const connection: Connection = {
      number: this.#nextConnection++,
      socket,
      running: new Map(),
      statisticsSentMs: 0,
    };
    this.#connections.set(connection.number, connection);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#disconnect(connection));
    readFrames(socket, (value) => this.#receive(connection, value as CommandMessage));
    writeFrame(socket, {
      kind: 'hello',
      connection: connection.number,
      description: this.#core.description,
      statistics: this.#core.statistics(),
    });
  }

  /** A front end left: what it asked for is cancelled, so that nothing runs for nobody. */
  #disconnect(connection: Connection): void {
    this.#connections.delete(connection.number);
    for (const id of connection.running.keys()) this.#core.cancel(id);
    this.#wake();
  }

  #receive(connection: Connection, { submits, cancels }: CommandMessage): void {
    for (const request of submits) this.#submit(connection, request);
    // A cancel may name another connection's request: a stop from any front end finds it.
    for (const { id, sequence } of cancels) this.#core.cancel(id, sequence);
    this.#wake();
  }

  #submit(connection: Connection, request: GenerationRequest): void {
    connection.running.set(request.id, request.sequences);
    try {
      this.#core.submit(request);
    } catch (thrown) {
      const error =
        thrown instanceof NereidError
          ? { code: thrown.code, kind: thrown.kind, message: thrown.message }
          : { code: 'ENGINE_FAILED', kind: 'internal', message: messageOf(thrown) };
      const refused: SequenceEvent[] = [];
      for (let sequence = 0; sequence < request.sequences; sequence++) {
        refused.push({ requestId: request.id, sequence, tokens: [], finish: 'error', error });
      }
      this.#dispatch(refused);
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
    for (const [number, own] of groupByConnection(events)) {
      const connection = this.#connections.get(number);
      if (!connection) continue;
      for (const event of own) if (event.finish) settle(connection, event.requestId);
      this.#send(connection, own);
    }
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

function settle(connection: Connection, requestId: number): void {
  const left = (connection.running.get(requestId) ?? 0) - 1;
  if (left > 0) connection.running.set(requestId, left);
  else connection.running.delete(requestId);
}

function groupByConnection(events: SequenceEvent[]): Map<number, SequenceEvent[]> {
  const groups = new Map<number, SequenceEvent[]>();
  for (const event of events) {
    const number = Math.floor(event.requestId / requestIdsPerConnection);
    const group = groups.get(number);
    if (group) group.push(event);
    else groups.set(number, [event]);
  }
  return groups;
}

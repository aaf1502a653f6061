import { type Clock, systemClock } from '../../base/clock.ts';
import { bodyBytesMax } from '../../base/limits.ts';
import { GenerationError } from '../../generation/errors.ts';
import { Generation, type GenerationObserver } from '../../generation/generation.ts';
import { TaskAdapters } from '../../runtime/adapters/task-adapters.ts';
import { type ApiKeys, bearerKey, type KeyUse } from '../authentication.ts';
import type { ClientBounds } from '../client-bounds.ts';
import { eagerCodec } from '../grpc-eager-writes.ts';
import { type RunningGrpcServer, startGrpcServer } from '../grpc-server.ts';
import type { GrpcService } from '../grpc-service.ts';
import { InFlight } from '../in-flight.ts';
import type { ServedModel } from '../served-model.ts';
import type { TlsMaterial } from '../tls.ts';
import { statusOf } from './errors.ts';
import { streamsPerChannelMax } from './limits.ts';
import { adapterOf } from './lora.ts';
import { requestCodec } from './messages.ts';
import { generationInput } from './requests.ts';
import { AnswerStream, type InferCall } from './stream.ts';

/** What the service answers with. */
export interface BritonOptions {
  model: ServedModel;
  /** Keys that calls must carry one of, as metadata `authorization: Bearer KEY`. Absent: none is asked for. */
  keys?: ApiKeys;
  /** Bounds what clients may take; to be shared by all servers of a process. Default: some of its own. */
  bounds?: ClientBounds;
  /** Folder of JSON schemas by their hashes, for `output_schema_hash`. Absent: requests that name one are refused. */
  schemas?: string | undefined;
  /** Measures each generation. */
  observer?: GenerationObserver;
  clock?: Clock;
}

/** Where it listens. */
export interface BritonServerOptions extends BritonOptions {
  host: string;
  /** 0 picks a free one. */
  port: number;
  /** Readiness by service name, for gRPC's health service. */
  readiness: () => Readonly<Record<string, boolean>>;
  /** Default: plain text. */
  tls?: TlsMaterial;
}

/** A running server. */
export interface RunningBriton extends RunningGrpcServer {
  /** Refuses new calls and waits for the running ones, so long at most. */
  drain(timeoutMs: number): Promise<void>;
}

/** Starts Briton's gRPC port, with health and reflection. @throws Error `EADDRINUSE` and the like */
export async function startBriton(options: BritonServerOptions): Promise<RunningBriton> {
  const briton = new Briton(options);
  const { host, port, readiness, tls, bounds } = options;
  const limits = { streamsPerConnectionMax: streamsPerChannelMax, receivedMessageBytesMax: bodyBytesMax };
  const server = await startGrpcServer({
    host,
    port,
    readiness,
    tls,
    bounds,
    services: [briton.service],
    limits,
  });
  return { ...server, drain: (timeoutMs) => briton.drain(timeoutMs) };
}

/** Briton's gRPC service over one model: `briton.Briton/Infer`, a prompt in, its answer as a stream of parts out. */
class Briton {
  readonly service: GrpcService;
  readonly #options: BritonOptions;
  readonly #clock: Clock;
  readonly #tasks: TaskAdapters;
  readonly #inFlight = new InFlight();
  #isDraining = false;

  constructor(options: BritonOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#tasks = new TaskAdapters(options.model.client);
    const infer = {
      name: 'Infer',
      responseStream: true,
      handler: ((call: InferCall) => this.#handle(call)) as never,
      request: requestCodec as never,
      response: eagerCodec as never,
    };
    this.service = { name: 'briton.Briton', protoFile: 'briton.proto', methods: [infer] };
  }

  async drain(timeoutMs: number): Promise<void> {
    this.#isDraining = true;
    await this.#inFlight.whenIdle(timeoutMs);
  }

  #handle(call: InferCall): void {
    this.#inFlight.add(call);
    this.#answer(call).catch((thrown: unknown) => call.emit('error', statusOf(thrown)));
  }

  /** Whose call it is. @throws ProtocolError UNAUTHENTICATED, RATE_LIMITED */
  #begin(call: InferCall): KeyUse | undefined {
    const { keys } = this.#options;
    if (!keys) return undefined;
    const header = call.metadata.get('authorization')[0]?.toString();
    const use = keys.check(bearerKey(header));
    call.once('close', use.begin());
    return use;
  }

  /** @throws NereidError before the generation runs; later ones end the stream */
  async #answer(call: InferCall): Promise<void> {
    const arrivedNs = this.#clock.nowNs();
    const use = this.#begin(call);
    if (this.#isDraining)
      throw new GenerationError(
        'SERVER_SHUTTING_DOWN',
        'the server is shutting down; send the request to another one',
      );
    const { model, observer, schemas } = this.#options;
    const input = await generationInput(call.request, model, schemas);
    const adapter = await adapterOf(call.request, this.#tasks);
    if (call.cancelled) return;
    let generation: Generation | undefined;
    const stream = new AnswerStream(call, () => generation?.cancel());
    if (use) {
      call.once('close', () => {
        const { promptTokens = 0, completionTokens = 0 } = generation?.usage ?? {};
        use.spend(promptTokens + completionTokens);
      });
    }
    call.on('cancelled', () => {
      stream.abandon();
      generation?.cancel();
    });
    const adapted = adapter ? { ...model, adapter } : model;
    generation = new Generation(adapted, input, stream, { observer, clock: this.#clock, arrivedNs });
    stream.requestId = generation.requestId;
  }
}

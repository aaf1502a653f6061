import cluster from 'node:cluster';
import type { Logger } from 'pino';
import { AggregatorRegistry, Registry } from 'prom-client';
import { entryPoint } from '../../base/entry.ts';
import { definite } from '../../base/errors.ts';
import type { Exposition } from '../../protocol/metrics.ts';
import type { RunningModel } from './engines.ts';
import type { FrontEndConfiguration } from './front-end-messages.ts';
import { type FrontEndPorts, FrontEndSlot, type SlotObserver } from './front-end-slot.ts';
import { SharedKeyUse } from './key-sharing.ts';
import { logFormatOf } from './log.ts';
import { answerMetricsOfAll } from './metrics-of-all.ts';
import type { ServeOptions } from './options.ts';
import { SharedResponses } from './shared-responses.ts';

/**
 * Several front-end processes over the same engines (`node:cluster` shares the port: Node 20 has no `reusePort`). One that dies is
 * started again; its requests' engines notice the closed connection and cancel them.
 */
export class FrontEndCluster {
  readonly port: number;
  readonly grpcPort: number | undefined;
  readonly britonPort: number | undefined;
  readonly #slots: readonly FrontEndSlot[];

  private constructor(slots: readonly FrontEndSlot[], { port, grpcPort, britonPort }: FrontEndPorts) {
    this.#slots = slots;
    this.port = port;
    this.grpcPort = grpcPort;
    this.britonPort = britonPort;
  }

  /** @throws CliError when a front end cannot listen */
  static async start(
    options: ServeOptions,
    models: readonly RunningModel[],
    logger: Logger,
  ): Promise<FrontEndCluster> {
    const { path, execArgv } = entryPoint('cli/serving/front-end-process');
    cluster.setupPrimary({ exec: path, execArgv, serialization: 'advanced' });
    const configuration: FrontEndConfiguration = {
      models: models.map(({ supervisors, ...model }) => ({
        ...model,
        socketPaths: supervisors.map((one) => one.socketPath),
      })),
      host: options.host,
      httpPort: options.httpPort,
      grpcPort: options.grpcPort,
      britonPort: options.britonPort,
      britonSchemas: options.britonSchemas,
      kserve: options.kserve,
      security: options.security,
      requestTimeoutSeconds: options.requestTimeoutSeconds,
      answers: options.answers,
      traffic: options.traffic,
      logLevel: options.logLevel,
      logFormat: logFormatOf(options.logFormat, process.stderr),
    };
    const responses = new SharedResponses(() => slots);
    const observers: SlotObserver[] = [
      { message: (message, slot) => void responses.hear(message, slot) },
      { message: (message, slot) => void answerMetricsOfAll(message, slot, () => metricsOf(slots)) },
      new SharedKeyUse(() => slots),
    ];
    const slots: FrontEndSlot[] = Array.from(
      { length: options.frontEnds },
      () => new FrontEndSlot(() => configuration, logger, observers),
    );
    // Where a free port was asked for (0), the cluster gives all of them the same one.
    const [first] = await Promise.all(slots.map((slot) => slot.start()));
    const ports = definite(first, 'the ports');
    // When all of them die at once, the next ones must come back to the same.
    configuration.httpPort = ports.port;
    if (ports.grpcPort !== undefined) configuration.grpcPort = ports.grpcPort;
    if (ports.britonPort !== undefined) configuration.britonPort = ports.britonPort;
    return new FrontEndCluster(slots, ports);
  }

  /** All of them read keys and certificates again. */
  reload(): void {
    for (const slot of this.#slots) slot.send({ kind: 'reload' });
  }

  /** Whether any front end takes requests. */
  get listening(): boolean {
    return this.#slots.some((slot) => slot.listening);
  }

  /** See {@link metricsOf}. */
  metricsText(): Promise<Exposition> {
    return metricsOf(this.#slots);
  }

  /** All of them refuse new requests, and all listen on until the last one's answers are out. */
  async drain(timeoutMs: number): Promise<void> {
    await Promise.all(this.#slots.map((slot) => slot.finish({ kind: 'drain', timeoutMs }, 'drained')));
  }

  async close(): Promise<void> {
    await Promise.all(this.#slots.map((slot) => slot.finish({ kind: 'close' })));
  }
}

/** Metrics of the front ends that answer, added up; one that starts or stands still is left out. */
async function metricsOf(slots: readonly FrontEndSlot[]): Promise<Exposition> {
  const all = await Promise.all(slots.map((slot) => slot.metrics()));
  const present = all.filter((one) => one !== undefined);
  const contentType = Registry.PROMETHEUS_CONTENT_TYPE;
  if (present.length === 0) return { text: '', contentType };
  return { text: await AggregatorRegistry.aggregate(present).metrics(), contentType };
}

import type { Logger } from 'pino';
import type { EngineHost, EngineLease, EngineSpecification } from '../../repository/engine-host.ts';
import { EnginePool } from '../../runtime/routing/pool.ts';
import { createProgress } from '../progress.ts';
import { prepareModels, startModels, stopModels } from './engines.ts';
import type { ServeOptions } from './options.ts';

/** An engine (or several behind one name) that models of a repository share. */
interface SharedEngine {
  lease: Promise<Omit<EngineLease, 'release'>>;
  stop(): Promise<void>;
  users: number;
}

/**
 * Starts engine processes for the models of a repository, with the command line's device and limits; models that ask for the same thing
 * share one. The last one to leave ends its processes, and so frees their memory.
 */
export class SupervisedEngineHost implements EngineHost {
  readonly #options: ServeOptions;
  readonly #logger: Logger;
  readonly #signal: AbortSignal;
  readonly #shared = new Map<string, SharedEngine>();

  /** @param signal gives up builds and downloads */
  constructor(options: ServeOptions, logger: Logger, signal: AbortSignal) {
    this.#options = options;
    this.#logger = logger;
    this.#signal = signal;
  }

  async acquire(specification: EngineSpecification): Promise<EngineLease> {
    const { key } = specification;
    const shared = this.#shared.get(key) ?? this.#start(specification);
    this.#shared.set(key, shared);
    shared.users++;
    let isReleased = false;
    const release = async (): Promise<void> => {
      if (isReleased) return;
      isReleased = true;
      if (--shared.users > 0) return;
      if (this.#shared.get(key) === shared) this.#shared.delete(key);
      await shared.stop();
    };
    try {
      return { ...(await shared.lease), release };
    } catch (thrown) {
      await release();
      throw thrown;
    }
  }

  #start(specification: EngineSpecification): SharedEngine {
    const options = optionsOf(specification, this.#options);
    const running = prepareModels(options, createProgress(), this.#signal).then((prepared) =>
      startModels(prepared, options, this.#logger),
    );
    const lease = running.then(([model]) => {
      if (!model) throw new Error(`no engine started for ${specification.name}`);
      const client = new EnginePool(model.supervisors.map((one) => one.client));
      return { client, tokenizerFolder: model.tokenizerFolder };
    });
    // Whoever acquires it hears why it failed.
    lease.catch(() => {});
    const stop = async (): Promise<void> => {
      const models = await running.catch(() => []);
      await stopModels(models, this.#options.drainSeconds * 1000);
    };
    return { lease, stop, users: 0 };
  }
}

function optionsOf(specification: EngineSpecification, options: ServeOptions): ServeOptions {
  return {
    ...options,
    models: [specification.source],
    servedModelName: specification.name,
    engines: specification.engines,
    capacityPolicy: specification.capacityPolicy,
    prefixReuse: specification.prefixReuse && options.prefixReuse,
    maxSequences: specification.sequencesMax ?? options.maxSequences,
    kvTokensMax: specification.kvTokensMax,
    kvMemoryShare: specification.kvMemoryShare,
    adapters: {
      settings: { ...options.adapters.settings, ...specification.adapters },
      atStart: [...options.adapters.atStart, ...(specification.adaptersAtStart ?? [])],
    },
    ...(specification.speculation && { speculation: specification.speculation }),
    ...(specification.stepsInFlight !== undefined && { stepsInFlight: specification.stepsInFlight }),
  };
}

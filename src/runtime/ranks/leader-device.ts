import { NereidError } from '../../base/errors.ts';
import type { Collective } from '../../device/collective/collective.ts';
import type {
  Device,
  DeviceMemory,
  DeviceModel,
  DeviceModelOptions,
  DeviceModelSource,
  KvAbility,
  KvPoolSize,
  LoadedWeights,
} from '../../device/device.ts';
import { factsOf, parseFacts, parseFailed, type RankFacts } from './group-settings.ts';
import { PipelineLeaderModel, TensorLeaderModel } from './leader-model.ts';
import type { RankGroup } from './rank-group.ts';
import type { FrameKind, RankLink } from './rank-link.ts';

/** How rank 0 leads. */
export interface LeaderOptions {
  group: RankGroup;
  collective?: Collective | undefined;
  /** All ranks draw on the same memory. */
  isOneHost: boolean;
}

/** Rank 0's device: what it loads, all ranks load, and what it runs, all run. */
export function leaderDevice(own: Device, options: LeaderOptions): Device {
  return {
    name: own.name,
    describe: () => own.describe(),
    close: () => own.close(),
    load: (source, modelOptions) => loadEverywhere(own, source, modelOptions, options),
  };
}

async function loadEverywhere(
  own: Device,
  source: DeviceModelSource,
  modelOptions: DeviceModelOptions,
  options: LeaderOptions,
): Promise<LoadedWeights> {
  const { links } = options.group.mesh;
  const { batchTokensMax, kvDtype } = modelOptions;
  const settings = { device: own.name, contextLength: source.contextLength, batchTokensMax, kvDtype };
  for (const link of links) link.sendJson('settings', settings);
  const collective = options.collective && { collective: options.collective };
  // Loading may block this process, so the others are told before and asked after.
  const weights = await own.load(source, { ...modelOptions, ...collective });
  const facts = await answers(links, 'facts', parseFacts);
  return new LeaderWeights(weights, [factsOf(weights), ...facts], options);
}

/** Every rank's part of the weights. */
class LeaderWeights implements LoadedWeights {
  readonly weightBytes: number;
  readonly kv: KvAbility;
  readonly #own: LoadedWeights;
  readonly #options: LeaderOptions;
  readonly #facts: readonly RankFacts[];

  constructor(own: LoadedWeights, facts: readonly RankFacts[], options: LeaderOptions) {
    this.#own = own;
    this.#facts = facts;
    this.#options = options;
    this.weightBytes = sum(facts.map((rank) => rank.weightBytes));
    // Every rank holds as many positions: what the fullest of them can hold counts.
    this.kv = { ...own.kv, bytesPerPosition: Math.max(...facts.map((rank) => rank.bytesPerPosition)) };
  }

  memory(): DeviceMemory {
    const own = this.#own.memory();
    const least = Math.min(own.freeBytes, ...this.#facts.map((rank) => rank.freeBytes));
    const all = sum(this.#facts.map((rank) => rank.bytesPerPosition));
    // A position takes memory on every rank.
    const isShared = this.#options.isOneHost && !own.isEachRanksOwn;
    const share = isShared && all > 0 ? this.kv.bytesPerPosition / all : 1;
    return { ...own, freeBytes: Math.floor(least * share) };
  }

  async allocateKv(size: KvPoolSize): Promise<DeviceModel> {
    const { group } = this.#options;
    const { links } = group.mesh;
    for (const link of links) link.sendJson('allocate', size);
    const own = await this.#own.allocateKv(size);
    await answers(links, 'allocated', () => undefined);
    const kv = { ...own.kv, bytesPerPosition: this.kv.bytesPerPosition };
    const parts = { own, kv, weightBytes: this.weightBytes, links };
    const { pipeline: stages } = group.parallelism;
    if (stages === 1) return new TensorLeaderModel(parts);
    return new PipelineLeaderModel({
      ...parts,
      stages,
      next: group.neighbour(1),
      last: group.mesh.link(group.resultRank),
    });
  }

  close(): void {
    this.#own.close();
  }
}

/**
 * What every other rank answers.
 * @throws NereidError of the first rank that cannot
 */
function answers<T>(links: readonly RankLink[], kind: FrameKind, parse: (value: unknown) => T): Promise<T[]> {
  return Promise.all(
    links.map((link) => {
      const failure = link.nextJson('failed').then((value) => {
        const { code, message } = parseFailed(value);
        throw new NereidError(code, 'internal', `rank ${link.peer}: ${message}`);
      });
      failure.catch(() => {});
      return Promise.race([link.nextJson(kind).then(parse), failure]);
    }),
  );
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

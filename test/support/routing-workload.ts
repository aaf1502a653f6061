import { SeededRandom } from '../../src/base/random.ts';
import { nullModelSource } from '../../src/device/null/index.ts';
import { LocalEngine } from '../../src/runtime/local-engine.ts';
import { loadModel } from '../../src/runtime/process/load-model.ts';
import { type GenerationRequest, greedySampling } from '../../src/runtime/requests/request.ts';
import { EnginePool } from '../../src/runtime/routing/pool.ts';
import type { RoutingName } from '../../src/runtime/routing/router.ts';

const vocabularySize = 32_000;
const contextLength = 8192;
/** Of the null model in f16. */
const bytesPerPosition = 128;

/** Engines that a workload runs on. */
export interface PoolOptions {
  engines: number;
  routing: RoutingName;
  /** KV positions of each engine. */
  kvPositions: number;
  /** Of the null device; none: steps take no time. */
  deviceOptions?: Record<string, string>;
}

/** A pool over engines of the null device in this process, each with a KV cache of blocks. */
export async function nullPool(options: PoolOptions): Promise<{ pool: EnginePool; engines: LocalEngine[] }> {
  const engines: LocalEngine[] = [];
  for (let index = 0; index < options.engines; index++) {
    const { model, options: core } = await loadModel(
      'null',
      nullModelSource({ vocabularySize, contextLength }),
      {
        device: 'null',
        deviceOptions: options.deviceOptions ?? {},
        threads: 1,
        slots: 64,
        batchTokensMax: 2048,
        kvDtype: 'f16',
        kvBytesMax: options.kvPositions * bytesPerPosition,
        prefixReuse: true,
      },
    );
    engines.push(new LocalEngine(model, core));
  }
  return { pool: new EnginePool(engines, options.routing), engines };
}

/** A request of a workload, and the one that must have ended before it (a chat's last turn). */
export interface WorkloadRequest {
  promptTokens: Int32Array;
  after?: WorkloadRequest;
}

/** `groups` system prompts, each followed by many users' own questions, in a seeded order. */
export function sharedPrefixes(sizes: {
  groups: number;
  perGroup: number;
  prefixTokens: number;
  ownTokens: number;
  seed?: number;
}): WorkloadRequest[] {
  const random = new SeededRandom(sizes.seed ?? 1);
  const requests: WorkloadRequest[] = [];
  for (let group = 0; group < sizes.groups; group++) {
    const prefix = tokens(random, sizes.prefixTokens);
    for (let user = 0; user < sizes.perGroup; user++) {
      requests.push({ promptTokens: Int32Array.from([...prefix, ...tokens(random, sizes.ownTokens)]) });
    }
  }
  return shuffled(requests, random);
}

/** `chats` conversations of several turns, each of which sends all that was said before. */
export function chats(sizes: {
  chats: number;
  turns: number;
  turnTokens: number;
  seed?: number;
}): WorkloadRequest[] {
  const random = new SeededRandom(sizes.seed ?? 2);
  const turns: WorkloadRequest[][] = Array.from({ length: sizes.turns }, () => []);
  for (let chat = 0; chat < sizes.chats; chat++) {
    let said: number[] = [];
    let after: WorkloadRequest | undefined;
    for (const of of turns) {
      said = [...said, ...tokens(random, sizes.turnTokens)];
      const turn: WorkloadRequest = { promptTokens: Int32Array.from(said), after };
      of.push(turn);
      after = turn;
    }
  }
  return turns.flatMap((turn) => shuffled(turn, random));
}

/** What a workload cost. */
export interface WorkloadResult {
  promptTokens: number;
  /** Of them, those that no cache had. */
  computedTokens: number;
  seconds: number;
  /** The busiest engine's requests ÷ the mean. */
  imbalance: number;
}

/** Sends a workload through a pool, so many requests at a time, and waits for its end. */
export async function runWorkload(
  { pool, engines }: { pool: EnginePool; engines: readonly LocalEngine[] },
  requests: readonly WorkloadRequest[],
  options: { concurrency: number; maxTokens: number },
): Promise<WorkloadResult> {
  const startMs = performance.now();
  const ended = new Map<WorkloadRequest, Promise<void>>();
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let request = requests[next++]; request; request = requests[next++]) {
      if (request.after) await ended.get(request.after);
      const one = generate(pool, request.promptTokens, options.maxTokens);
      ended.set(request, one);
      await one;
    }
  };
  await Promise.all(Array.from({ length: options.concurrency }, worker));
  const seconds = (performance.now() - startMs) / 1000;
  const { promptTokens, cachedPromptTokens } = pool.statistics();
  const made = engines.map((engine) => engine.statistics().generatedTokens);
  const mean = made.reduce((sum, each) => sum + each, 0) / made.length;
  const imbalance = Math.max(...made) / mean;
  return { promptTokens, computedTokens: promptTokens - cachedPromptTokens, seconds, imbalance };
}

function generate(pool: EnginePool, promptTokens: Int32Array, maxTokens: number): Promise<void> {
  const request: Omit<GenerationRequest, 'id'> = {
    ...{ promptTokens, maxTokens, minTokens: 0, stopTokenIds: [], sequences: 1, priority: 0 },
    sampling: greedySampling,
  };
  return new Promise((resolve, reject) => {
    pool.submit(request, ({ finish, error }) => {
      if (finish === 'error') reject(new Error(error?.message));
      else if (finish) resolve();
    });
  });
}

function tokens(random: SeededRandom, count: number): number[] {
  return Array.from({ length: count }, () => random.integer(vocabularySize));
}

function shuffled<T>(items: readonly T[], random: SeededRandom): T[] {
  const all = [...items];
  for (let at = all.length - 1; at > 0; at--) {
    const other = random.integer(at + 1);
    [all[at], all[other]] = [all[other] as T, all[at] as T];
  }
  return all;
}

import assert from 'node:assert/strict';
import { ManualClock } from '../../src/base/clock.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { AdapterRoom } from '../../src/device/adapters.ts';
import { nullModelSource, openDevice } from '../../src/device/null/index.ts';
import { EngineCore, type EngineCoreOptions } from '../../src/runtime/loop/engine-core.ts';
import { capacityPolicyNames } from '../../src/runtime/plan/capacity.ts';
import type { FinishReason, SequenceEvent } from '../../src/runtime/requests/events.ts';
import { type GenerationRequest, greedySampling } from '../../src/runtime/requests/request.ts';
import type { EngineStatistics } from '../../src/runtime/requests/statistics.ts';
import { type AuditedBatch, AuditedModel } from './audited-model.ts';
import { addAdapters, randomAdapterRoom, simulatedAdapters, wholeAdapterRoom } from './simulated-adapters.ts';
import { simulatedDrafts } from './simulated-drafts.ts';
import {
  addGuides,
  type Mishaps,
  noMishaps,
  randomMishaps,
  SimulatedFollower,
  simulatedVocabulary,
} from './simulated-guides.ts';
import { addReturns, randomStore, shownBy } from './simulated-outputs.ts';

export const vocabularySize = 997;
export const contextLength = 160;
/** Bytes of KV that one position of the null model takes in f16. */
const bytesPerPosition = 128;

/** An engine's options, and how the null device under it is set up. */
export interface AuditedOptions extends Partial<EngineCoreOptions> {
  deviceOptions?: Record<string, string>;
  /** Places in a cache of slots. Default 4. */
  slots?: number;
  /** Makes it a cache of blocks. */
  blockPositions?: number;
  hostBlocks?: number;
  /** Places for adapters on the device. Default: for all of `simulated-adapters.ts`. */
  adapterRoom?: AdapterRoom;
  /** Of whoever follows guides. Default: none. */
  mishaps?: Mishaps;
}

/** Turns of the event loop in a row in which an engine that is not empty waits for its guides. */
const idleTurnsMax = 1_000;

/** An engine on the null device whose every batch is audited. */
export async function auditedEngine(
  overrides: AuditedOptions = {},
  onEvents: (events: SequenceEvent[]) => void = () => {},
): Promise<{ core: EngineCore; model: AuditedModel; clock: ManualClock }> {
  const { deviceOptions = {}, slots = 4, blockPositions, hostBlocks = 0, ...more } = overrides;
  const { adapterRoom = wholeAdapterRoom, mishaps = noMishaps, ...rest } = more;
  const batchTokensMax = rest.batchTokensMax ?? 64;
  const sequencesMax = rest.sequencesMax ?? slots;
  const clock = new ManualClock();
  const kvBytesMax = rest.kvBytesMax ?? slots * contextLength * bytesPerPosition;
  const weights = await openDevice(deviceOptions).load(nullModelSource({ vocabularySize, contextLength }), {
    batchTokensMax,
    kvDtype: 'f16',
    threads: 1,
    adapters: adapterRoom,
  });
  const inner = await weights.allocateKv({
    blocks: blockPositions ? Math.floor(kvBytesMax / (blockPositions * bytesPerPosition)) : slots,
    blockPositions: blockPositions ?? contextLength,
    hostBlocks,
  });
  const model = new AuditedModel(inner, { batchTokensMax, sequencesMax });
  const core = new EngineCore(
    model,
    {
      name: 'simulated',
      device: 'null',
      vocabularySize,
      contextLength,
      clock,
      adapters: await simulatedAdapters(model),
      vocabulary: simulatedVocabulary,
      guidance: { start: (data) => new SimulatedFollower(data, mishaps), lateMaskWaitMs: 0 },
      ...rest,
      sequencesMax,
      batchTokensMax,
      kvBytesMax,
    },
    onEvents,
  );
  return { core, model, clock };
}

/** What became of one sequence. */
export interface Outcome {
  tokens: number[];
  /** Logits, hidden states and embeddings that it was shown. */
  shown: string[];
  finish: FinishReason | undefined;
}

/** Gathers events by request and sequence, and fails on any after the finish. */
export class Outcomes {
  readonly #bySequence = new Map<string, Outcome>();
  readonly starts = new Map<number, SequenceEvent['start']>();

  take(events: SequenceEvent[]): void {
    const seen = new Set<string>();
    for (const event of events) {
      const key = `${event.requestId}/${event.sequence}`;
      assert.ok(!seen.has(key), `one event of ${key} a step`);
      seen.add(key);
      const outcome = this.of(event.requestId, event.sequence);
      assert.equal(outcome.finish, undefined, `nothing of ${key} after its finish`);
      outcome.tokens.push(...event.tokens);
      for (const row of shownBy(event)) {
        // The prompt's rows come with whichever of its sequences is the first to say something.
        const whose = row.startsWith('context') ? this.of(event.requestId, 0) : outcome;
        whose.shown.push(row);
      }
      outcome.finish = event.finish;
      if (event.start) {
        assert.ok(!this.starts.has(event.requestId), `${event.requestId} starts once`);
        this.starts.set(event.requestId, event.start);
      }
    }
  }

  of(requestId: number, sequence: number): Outcome {
    const key = `${requestId}/${sequence}`;
    let outcome = this.#bySequence.get(key);
    if (!outcome) {
      outcome = { tokens: [], shown: [], finish: undefined };
      this.#bySequence.set(key, outcome);
    }
    return outcome;
  }
}

/** A request with defaults that ask for little. */
export function requestOf(overrides: Partial<GenerationRequest> & { id: number }): GenerationRequest {
  return {
    promptTokens: Int32Array.of(1, 2, 3),
    sampling: greedySampling,
    maxTokens: 5,
    minTokens: 0,
    stopTokenIds: [],
    sequences: 1,
    priority: 0,
    ...overrides,
  };
}

/** What the request makes when nothing else is there: no batching, no reuse, no chunks. */
export async function outcomesAlone(request: GenerationRequest): Promise<Outcome[]> {
  const outcomes = new Outcomes();
  const slots = request.beams?.width ?? 1;
  const options = { slots, batchTokensMax: contextLength, prefixReuse: false, inFlightStepsMax: 1 };
  const { core } = await auditedEngine(options, (events) => outcomes.take(events));
  core.submit(request);
  await runToEnd(core);
  await core.close();
  return Array.from({ length: request.sequences }, (_, sequence) => outcomes.of(request.id, sequence));
}

/** Steps until nothing is left, whatever it has to wait for. */
export async function runToEnd(core: EngineCore): Promise<void> {
  for (; !core.isEmpty; await whenRunnable(core)) await core.step();
}

/** Waits for what an engine that is not empty has to wait for: its guides. */
async function whenRunnable(core: EngineCore): Promise<void> {
  for (let turn = 0; !core.isEmpty && !core.hasRunnable; turn++) {
    assert.ok(turn < idleTurnsMax, 'what is waited for comes');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A request, and when it comes and goes. */
export interface Arrival {
  step: number;
  request: GenerationRequest;
  /** Step at which it is cancelled, and which sequence (−1: all). */
  cancel?: { step: number; sequence: number };
}

/** One seeded run of arrivals, cancels, priorities and odd limits; every promise of the engine is asserted on the way. */
export async function simulate(seed: number): Promise<EngineStatistics> {
  const random = new SeededRandom(seed);
  const options = randomOptions(random);
  const arrivals = randomArrivals(random, options.kvBytesMax / bytesPerPosition, options.requests);
  addBeams(new SeededRandom(seed + 2e6), arrivals, options);
  const adapting = new SeededRandom(seed + 3e6);
  addAdapters(
    adapting,
    arrivals.map(({ request }) => request),
  );
  const adapterRoom = randomAdapterRoom(adapting);
  const showing = new SeededRandom(seed + 4e6);
  const requests = arrivals.map(({ request }) => request);
  addReturns(showing, requests);
  const store = randomStore(showing, requests, { vocabularySize, contextLength });
  const guiding = new SeededRandom(seed + 5e6);
  addGuides(guiding, requests);
  const mishaps = randomMishaps(guiding);
  const truths = await truthsOf(arrivals);
  const speculation = simulatedDrafts(new SeededRandom(seed + 1e6), requests, truths);
  const outcomes = new Outcomes();
  const overrides = { ...options, speculation, adapterRoom, outputs: store, mishaps };
  const { core, model, clock } = await auditedEngine(overrides, (events) => outcomes.take(events));
  model.isDeferred = random.integer(4) === 0;
  const cancelled: Int32Array[] = [];
  model.onBatch = (batch) => {
    for (const prompt of cancelled) assertAbsent(batch, prompt);
  };
  const stepsMax = stepsAtMost(arrivals);
  const pending = [...arrivals];
  let step = 0;
  for (; pending.length > 0 || !core.isEmpty; step++) {
    assert.ok(step < stepsMax, `everything ends within ${stepsMax} steps`);
    if (pending.length === 0) await whenRunnable(core);
    while (pending[0] && pending[0].step <= step) core.submit(pending.shift()!.request);
    // A cancel comes before the step, or while a deferred one is in flight.
    const running = model.isDeferred ? core.step() : undefined;
    for (const { request, cancel } of arrivals) {
      if (cancel?.step !== step) continue;
      core.cancel(request.id, cancel.sequence < 0 ? undefined : cancel.sequence);
      if (cancel.sequence < 0) cancelled.push(request.promptTokens);
    }
    await (model.isDeferred ? running : core.step());
    // An engine takes a step a turn of the event loop; in between come those who follow guides.
    await new Promise((resolve) => setImmediate(resolve));
    clock.advanceMs(1);
    const usage = core.kvUsage();
    assert.ok(usage.bytesReserved + usage.bytesRetained <= usage.bytesMax, 'KV bytes are kept');
    assert.ok(core.statistics().runningSequences <= options.sequencesMax, 'sequences are capped');
  }
  core.releaseRetained();
  while (core.hasRunnable) await core.step();
  assertAllGivenBack(core, model, options);
  assert.equal(store.bytesTaken, 0, 'all room for outputs is given back');
  await core.close();
  const failed = new Set<number>();
  await checkOutcomes(arrivals, outcomes, truths, ({ id }) => failed.add(id).size <= mishaps.deaths);
  return core.statistics();
}

/** Every step makes progress on at least one row; pauses repeat some of it. */
function stepsAtMost(arrivals: readonly Arrival[]): number {
  const rows = arrivals.map(
    ({ request }) => request.promptTokens.length + request.maxTokens * request.sequences,
  );
  return 200 + rows.reduce((sum, own) => sum + own, 0) * 4;
}

function assertAllGivenBack(core: EngineCore, model: AuditedModel, options: SimulatedOptions): void {
  const { bytesReserved, bytesRetained, hostBytesUsed } = core.kvUsage();
  assert.deepEqual([bytesReserved, bytesRetained, hostBytesUsed], [0, 0, 0], 'all memory is given back');
  if (!options.blockPositions) assert.equal(model.histories.size, 0, 'and the device was told so');
  const { runningSequences, waitingRequests, kvBytesReserved } = core.statistics();
  assert.deepEqual([runningSequences, waitingRequests, kvBytesReserved], [0, 0, 0]);
}

/** Makes some requests beam searches, where they fit. */
function addBeams(random: SeededRandom, arrivals: readonly Arrival[], options: SimulatedOptions): void {
  if (options.capacityPolicy === 'max_utilization' || options.sequencesMax < 2) return;
  for (const { request, cancel } of arrivals) {
    if (random.integer(8) > 0) continue;
    const width = 2 + random.integer(Math.min(4, options.sequencesMax - 1));
    const chunk = options.blockPositions ?? 16;
    const worst = Math.min(contextLength, request.promptTokens.length + request.maxTokens);
    if (width * Math.ceil(worst / chunk) * chunk > options.kvBytesMax / bytesPerPosition - chunk) continue;
    request.beams = {
      width,
      lengthPenalty: random.integer(3),
      earlyStopping: [true, false, 'never' as const][random.integer(3)] ?? true,
      diversityRate: random.integer(2) * random.next(),
    };
    request.sequences = 1 + random.integer(width);
    if (cancel) cancel.sequence = -1;
  }
}

type Truths = ReadonlyMap<number, readonly Outcome[]>;

/** What every request makes alone, by id. */
async function truthsOf(arrivals: readonly Arrival[]): Promise<Truths> {
  const truths = new Map<number, Outcome[]>();
  for (const { request } of arrivals) truths.set(request.id, await outcomesAlone(request));
  return truths;
}

/** Every sequence has what it would have alone, but the cancelled, which have a beginning of it. */
export async function checkOutcomes(
  arrivals: readonly Arrival[],
  outcomes: Outcomes,
  known?: Truths,
  mayFail: (request: GenerationRequest) => boolean = () => false,
): Promise<void> {
  const truths = known ?? (await truthsOf(arrivals));
  for (const { request, cancel } of arrivals) {
    for (const [sequence, expected] of (truths.get(request.id) ?? []).entries()) {
      const actual = outcomes.of(request.id, sequence);
      assertBansKept(request, actual.tokens);
      assert.ok(actual.finish, `request ${request.id} sequence ${sequence} has a finish`);
      if (actual.finish === 'cancelled') {
        assert.ok(cancel && (cancel.sequence < 0 || cancel.sequence === sequence), 'only the cancelled are');
        assert.deepEqual(actual.tokens, expected.tokens.slice(0, actual.tokens.length));
        for (const row of actual.shown) assert.ok(expected.shown.includes(row), 'shown as if alone');
      } else if (actual.finish === 'error' && expected.finish !== 'error') {
        assert.ok(request.guide && mayFail(request), `request ${request.id} has no reason to fail`);
        assert.deepEqual(actual.tokens, expected.tokens.slice(0, actual.tokens.length));
      } else assert.deepEqual(actual, expected, `request ${request.id} sequence ${sequence} is as if alone`);
    }
  }
}

/** What may not be said was not, by a look at the whole text for each token. */
export function assertBansKept({ promptTokens, sampling }: GenerationRequest, output: number[]): void {
  const { allowedTokens, badWords = [], noRepeatNgramSize: size = 0, embeddingBias } = sampling;
  const said = [...promptTokens, ...output].map((token) => ` ${token} `);
  const spoken = output.map((token) => ` ${token} `).join('');
  for (const token of output) {
    assert.ok(!allowedTokens || allowedTokens.includes(token), `${token} is allowed`);
    assert.notEqual(embeddingBias?.[token], Number.NEGATIVE_INFINITY, `${token} is not banned`);
  }
  for (const word of badWords) assert.ok(!spoken.includes(word.map((token) => ` ${token} `).join('')));
  if (size === 0) return;
  for (let end = promptTokens.length + 1; end <= said.length; end++) {
    const ngram = said.slice(Math.max(0, end - size), end).join('');
    const before = said.slice(0, end - 1).join('');
    assert.ok(end < size || !before.includes(ngram), `${ngram} comes once`);
  }
}

/** No sequence of the batch has the whole prompt (prompts end in a token of their own). */
export function assertAbsent(batch: AuditedBatch, prompt: Int32Array): void {
  for (const { text } of batch.segments) {
    if (text.length < prompt.length) continue;
    const isSame = prompt.every((token, position) => text[position] === token);
    assert.ok(!isSame, 'a cancelled request is in no batch planned after');
  }
}

export type SimulatedOptions = AuditedOptions & {
  kvBytesMax: number;
  sequencesMax: number;
  requests: number;
};

/** How large the engine is, and which of its ways it goes. */
export function randomOptions(random: SeededRandom): SimulatedOptions {
  // Some runs are large: what costs or breaks only with many sequences shows in them.
  const isLarge = random.integer(10) === 0;
  const slots = 1 + random.integer(isLarge ? 64 : 6);
  const sequencesMax = 1 + random.integer(slots);
  const blockPositions = random.integer(2) === 0 ? undefined : 1 + random.integer(24);
  // At least one sequence of full length fits, or nothing could be promised.
  const positions = contextLength + 24 + random.integer(slots * contextLength);
  return {
    slots,
    sequencesMax,
    blockPositions,
    hostBlocks: blockPositions && random.integer(3) === 0 ? 1 + random.integer(20) : 0,
    batchTokensMax: sequencesMax + random.integer(40),
    kvBytesMax: positions * bytesPerPosition,
    capacityPolicy: capacityPolicyNames[random.integer(capacityPolicyNames.length)],
    prefixReuse: random.integer(4) > 0,
    prefixCacheBytesMax:
      random.integer(3) === 0 ? random.integer(contextLength) * bytesPerPosition : undefined,
    inFlightStepsMax: 1 + random.integer(2),
    sharedPrefixPositionsMin: 1 + random.integer(100),
    deviceOptions: { sampling: random.integer(2) === 0 ? 'host' : 'device' },
    requests: isLarge ? 150 : 5 + random.integer(25),
  };
}

/** Requests of every kind; some share prefixes, some are cancelled. */
export function randomArrivals(random: SeededRandom, positionsMax: number, count: number): Arrival[] {
  assert.ok(positionsMax >= contextLength);
  const prefixes = Array.from({ length: 3 }, () => randomTokens(random, 10 + random.integer(70)));
  const arrivals: Arrival[] = [];
  let step = 0;
  for (let id = 0; id < count; id++) {
    step += random.integer(count > 30 ? 2 : 6);
    const prefix = prefixes[random.integer(prefixes.length)]!;
    const used = prefix.slice(0, random.integer(3) === 0 ? random.integer(prefix.length) : prefix.length);
    // Tokens from 900 up are each one request's own; with many requests they come round, behind other texts.
    const tokens = [...used, ...randomTokens(random, random.integer(20)), 900 + (id % 97), id % 900];
    const sequences = random.integer(4) === 0 ? 1 + random.integer(5) : 1;
    const maxTokens = 1 + random.integer(random.integer(5) === 0 ? 100 : 20);
    const request = requestOf({
      id,
      promptTokens: Int32Array.from(tokens),
      maxTokens,
      minTokens: random.integer(3) === 0 ? random.integer(maxTokens) : 0,
      stopTokenIds: random.integer(3) === 0 ? Array.from({ length: 100 }, (_, i) => i * 5) : [],
      sequences,
      priority: random.integer(4) === 0 ? random.integer(3) : 0,
      sampling: randomSampling(random, id),
      cacheSalt: random.integer(5) === 0 ? 'salt' : undefined,
      retention: random.integer(5) === 0 ? randomRetention(random) : undefined,
      logprobs: random.integer(6) === 0 ? random.integer(5) : undefined,
      promptLogprobs: random.integer(10) === 0 ? random.integer(3) : undefined,
    });
    const cancel =
      random.integer(4) === 0
        ? { step: step + random.integer(30), sequence: random.integer(sequences + 1) - 1 }
        : undefined;
    arrivals.push({ step, request, cancel });
  }
  return arrivals;
}

function randomRetention(random: SeededRandom): NonNullable<GenerationRequest['retention']> {
  const level = () => ({
    priority: random.integer(101),
    ...(random.integer(2) === 0 && { durationMs: random.integer(100) }),
  });
  const start = random.integer(40);
  return { ranges: [{ start, end: start + random.integer(60), ...level() }], decode: level() };
}

function randomTokens(random: SeededRandom, count: number): number[] {
  return Array.from({ length: count }, () => random.integer(900));
}

/**
 * Bans by what was said, lists, decay: for one request in four. One kind of ban at a time: the null device has 16 neighbouring tokens to
 * choose from, and some must be left.
 */
function randomBans(random: SeededRandom): Partial<GenerationRequest['sampling']> {
  const some = (count: number): number[] =>
    Array.from({ length: count }, () => random.integer(vocabularySize));
  const bans: (() => Partial<GenerationRequest['sampling']>)[] = [
    () => ({ allowedTokens: Int32Array.from({ length: vocabularySize / 4 }, (_, index) => index * 4) }),
    () => ({ badWords: Array.from({ length: 60 }, (_, index) => some(1 + (index % 2))) }),
    // 1: no token comes twice, so that bans are met all the time.
    () => ({ noRepeatNgramSize: 1 + random.integer(3) }),
    () => ({
      embeddingBias: Float32Array.from({ length: 500 }, (_, i) => (i % 3 ? i % 7 : Number.NEGATIVE_INFINITY)),
    }),
    () => ({
      topPDecay: { factor: 0.5 + random.next() / 2, min: 0.1, resetToken: random.integer(2) ? 3 : undefined },
    }),
  ];
  return random.integer(4) === 0 ? (bans[random.integer(bans.length)]?.() ?? {}) : {};
}

function randomSampling(random: SeededRandom, seed: number): GenerationRequest['sampling'] {
  const bans = randomBans(random);
  if (random.integer(2) === 0) return { ...greedySampling, ...bans, seed };
  return {
    ...bans,
    temperature: random.integer(4) === 0 ? 0 : 0.2 + random.next() * 2,
    topK: random.integer(2) === 0 ? 0 : 1 + random.integer(20),
    topP: random.integer(2) === 0 ? 1 : 0.05 + random.next() * 0.95,
    minP: random.integer(3) === 0 ? random.next() * 0.5 : 0,
    repetitionPenalty: random.integer(3) === 0 ? 0.5 + random.next() : 1,
    presencePenalty: random.integer(3) === 0 ? random.next() * 4 - 2 : 0,
    frequencyPenalty: random.integer(3) === 0 ? random.next() * 4 - 2 : 0,
    seed,
    logitBias: random.integer(4) === 0 ? [[random.integer(900), random.next() * 20 - 10]] : undefined,
  };
}

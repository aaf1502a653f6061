import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { ManualClock } from '../../src/base/clock.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { Device } from '../../src/device/device.ts';
import { nullModelSource, openDevice } from '../../src/device/null/index.ts';
import type { Parallelism } from '../../src/models/partition.ts';
import { EngineCore } from '../../src/runtime/loop/engine-core.ts';
import { followLeader } from '../../src/runtime/ranks/follow.ts';
import { leaderDevice } from '../../src/runtime/ranks/leader-device.ts';
import { RankGroup } from '../../src/runtime/ranks/rank-group.ts';
import { RankMesh } from '../../src/runtime/ranks/rank-mesh.ts';
import type { SequenceEvent } from '../../src/runtime/requests/events.ts';
import { AuditedModel } from './audited-model.ts';
import {
  type Arrival,
  assertAbsent,
  checkOutcomes,
  contextLength,
  Outcomes,
  randomArrivals,
  randomOptions,
  type SimulatedOptions,
  vocabularySize,
} from './engine-simulator.ts';

/** Bytes of KV that one position of the null model takes in f16. */
const bytesPerPosition = 128;
const shapes: Parallelism[] = [
  { tensor: 2, pipeline: 1 },
  { tensor: 3, pipeline: 1 },
  { tensor: 1, pipeline: 2 },
  { tensor: 1, pipeline: 3 },
  { tensor: 2, pipeline: 2 },
];
/** Turns of the event loop that a rank may lag behind, and that a step may take. */
const lagMax = 4;
const turnsMax = 20_000;

/** All ranks of an engine on the null device, in this process but over real connections; every rank's steps are audited. */
interface SimulatedGroup {
  core: EngineCore;
  /** By rank. */
  models: AuditedModel[];
  /** Ends one rank's connections, as its death does. */
  kill(rank: number): void;
  /** A rank is lost: whoever leads is about to be ended, too. */
  readonly isLost: boolean;
  close(): Promise<void>;
}

/**
 * One seeded run of arrivals and cancels on a group of ranks, of which any may die at any step. Then a new group starts, as a supervisor starts
 * it, and the requests that the loss has ended are sent again. Every rank keeps the promises of a single engine: a block has one writer and
 * no gap, a cancelled request is in no batch planned after, all memory is given back; and all ranks run the same steps.
 */
export async function simulateRanks(seed: number): Promise<void> {
  const random = new SeededRandom(seed);
  const options = randomOptions(random);
  const shape = shapes[random.integer(shapes.length)] as Parallelism;
  const arrivals = randomArrivals(random, options.kvBytesMax / bytesPerPosition, 4 + random.integer(12));
  const folder = mkdtempSync(join(tmpdir(), 'nereid-rank-simulation-'));
  try {
    let pending = arrivals;
    const ranks = shape.tensor * shape.pipeline;
    for (let kills = random.integer(3); kills >= 0; kills--) {
      const death = { step: random.integer(60), rank: random.integer(ranks) };
      pending = await runGroup({
        random,
        options,
        shape,
        folder,
        arrivals: pending,
        death: kills > 0 ? death : undefined,
      });
    }
    assert.equal(pending.length, 0, 'every request ends at last');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface GroupRun {
  random: SeededRandom;
  options: SimulatedOptions;
  shape: Parallelism;
  folder: string;
  arrivals: readonly Arrival[];
  death: { step: number; rank: number } | undefined;
}

/** One group's life. @returns the requests that its end has ended: to be sent again */
async function runGroup({ random, arrivals, death, ...rest }: GroupRun): Promise<Arrival[]> {
  const outcomes = new Outcomes();
  const group = await startGroup(rest, random, (events) => outcomes.take(events));
  const { core, models } = group;
  const cancelled: Int32Array[] = [];
  // What is cancelled is planned no more; to the ranks behind, steps that hold it may still be on their way.
  models[0]!.onBatch = (batch) => {
    for (const prompt of cancelled) assertAbsent(batch, prompt);
  };
  const pending = [...arrivals];
  const submitted = new Set<Arrival>();
  try {
    for (let step = 0; pending.length > 0 || core.hasRunnable; step++) {
      if (step === death?.step) group.kill(death.rank);
      if (group.isLost) break;
      while (pending[0] && pending[0].step <= step) {
        const arrival = pending.shift() as Arrival;
        submitted.add(arrival);
        core.submit(arrival.request);
      }
      for (const { request, cancel } of arrivals) {
        if (cancel?.step !== step) continue;
        core.cancel(request.id, cancel.sequence < 0 ? undefined : cancel.sequence);
        if (cancel.sequence < 0) cancelled.push(request.promptTokens);
      }
      if (!(await stepped(group))) break;
      for (let lag = random.integer(lagMax); lag > 0; lag--) await turn();
    }
    if (!group.isLost) await assertAllGivenBack(group);
    await assertSameSteps(group);
  } finally {
    await group.close();
  }
  const hasEnded = ({ request }: Arrival) =>
    Array.from({ length: request.sequences }, (_, sequence) => outcomes.of(request.id, sequence)).every(
      ({ finish }) => finish !== undefined && finish !== 'error',
    );
  const ended = [...submitted].filter(hasEnded);
  await checkOutcomes(ended, outcomes);
  return arrivals.filter((arrival) => !ended.includes(arrival)).map((arrival) => ({ ...arrival, step: 0 }));
}

/** @returns whether the step came back; one that waits for a lost rank never does, and its process is ended */
async function stepped(group: SimulatedGroup): Promise<boolean> {
  let isDone = false;
  const running = Promise.resolve(group.core.step()).then(() => {
    isDone = true;
  });
  running.catch(() => {});
  for (let turns = 0; !isDone; turns++) {
    assert.ok(turns < turnsMax, 'a step comes back');
    if (group.isLost) return false;
    await turn();
  }
  await running;
  return true;
}

async function assertAllGivenBack({ core, models }: SimulatedGroup): Promise<void> {
  core.releaseRetained();
  while (core.hasRunnable) await core.step();
  const { bytesReserved, bytesRetained, hostBytesUsed } = core.kvUsage();
  assert.deepEqual([bytesReserved, bytesRetained, hostBytesUsed], [0, 0, 0], 'all memory is given back');
  for (let turns = 0; models.some(({ batches }) => batches.length < models[0]!.batches.length); turns++) {
    assert.ok(turns < turnsMax, 'every rank runs every step');
    await turn();
  }
}

/** Every rank ran rank 0's steps in rank 0's order, as far as it came. */
async function assertSameSteps({ models }: SimulatedGroup): Promise<void> {
  const [first, ...others] = models;
  for (const [index, { batches }] of others.entries()) {
    assert.ok(batches.length <= first!.batches.length, `rank ${index + 1} runs no step of its own`);
    for (const [step, { serial, tokens, segments }] of batches.entries()) {
      const { serial: expected, tokens: firstTokens, segments: firstSegments } = first!.batches[step]!;
      assert.equal(serial, expected);
      assert.deepEqual(tokens, firstTokens, `rank ${index + 1}, step ${serial}`);
      assert.deepEqual(segments, firstSegments, `rank ${index + 1}, step ${serial}`);
    }
  }
}

async function startGroup(
  { options, shape, folder }: Pick<GroupRun, 'options' | 'shape' | 'folder'>,
  random: SeededRandom,
  onEvents: (events: SequenceEvent[]) => void,
): Promise<SimulatedGroup> {
  const ranks = shape.tensor * shape.pipeline;
  const leader = { path: join(folder, `${random.integer(2 ** 30)}.sock`) };
  const meshes = await Promise.all(
    Array.from({ length: ranks }, (_, rank) =>
      RankMesh.join({ identity: { rank, ranks, secret: 'simulated', version: '1', engine: 'null' }, leader }),
    ),
  );
  const groups = meshes.map((mesh) => new RankGroup(mesh, shape));
  const models: AuditedModel[] = [];
  const sourceOf = (group: RankGroup) =>
    nullModelSource({ vocabularySize, contextLength }, !group.isLastStage);
  const deviceOf = (rank: number) => auditedDevice(options, (model) => (models[rank] = model));
  const followers = groups.slice(1).map((group, index) =>
    followLeader({
      group,
      source: sourceOf(group),
      threads: 1,
      openDevice: async () => deviceOf(index + 1),
    }),
  );
  const ended = Promise.allSettled(followers);
  let isLost = false;
  const [first] = groups as [RankGroup];
  first.mesh.onLost(() => (isLost = true));
  const device = leaderDevice(deviceOf(0), { group: first, isOneHost: true });
  const { batchTokensMax, kvBytesMax, sequencesMax, blockPositions, slots = 1, hostBlocks = 0 } = options;
  const weights = await device.load(sourceOf(first), {
    batchTokensMax: batchTokensMax as number,
    kvDtype: 'f16',
    threads: 1,
  });
  const model = await weights.allocateKv({
    blocks: blockPositions ? Math.floor(kvBytesMax / (blockPositions * bytesPerPosition)) : slots,
    blockPositions: blockPositions ?? contextLength,
    hostBlocks,
  });
  const clock = new ManualClock();
  const { deviceOptions: _device, requests: _requests, ...limits } = options;
  const core = new EngineCore(
    model,
    {
      name: 'simulated',
      device: 'null',
      vocabularySize,
      contextLength,
      clock,
      ...limits,
      batchTokensMax: batchTokensMax as number,
      sequencesMax,
      onFatal: () => (isLost = true),
    },
    onEvents,
  );
  return {
    core,
    models,
    kill(rank) {
      meshes[rank]?.close();
      if (rank === 0) isLost = true;
    },
    get isLost() {
      return isLost;
    },
    async close() {
      for (const mesh of meshes) mesh.close();
      await ended;
    },
  };
}

/** The null device, with every step of its model audited. */
function auditedDevice(options: SimulatedOptions, onModel: (model: AuditedModel) => void): Device {
  const device = openDevice(options.deviceOptions ?? {});
  const { batchTokensMax = 0, sequencesMax } = options;
  return {
    ...device,
    async load(source, loadOptions) {
      const weights = await device.load(source, loadOptions);
      return {
        ...weights,
        async allocateKv(size) {
          const model = new AuditedModel(await weights.allocateKv(size), { batchTokensMax, sequencesMax });
          onModel(model);
          return model;
        },
      };
    },
  };
}

import { assert, definite, messageOf, NereidError } from '../../base/errors.ts';
import type { Collective } from '../../device/collective/collective.ts';
import type { Device, DeviceModel, DeviceModelSource } from '../../device/device.ts';
import { type StepBatch, type StepResult, want } from '../../device/step.ts';
import { factsOf, parseAllocate, parseSettings } from './group-settings.ts';
import type { RankGroup } from './rank-group.ts';
import { decodeHidden, decodeStep, encodeHidden, encodeResult } from './step-codec.ts';

/** What a rank that follows rank 0 is given. */
export interface FollowerOptions {
  group: RankGroup;
  collective?: Collective | undefined;
  source: DeviceModelSource;
  threads: number;
  /** @throws UnknownNameError, DeviceError */
  openDevice(name: string): Promise<Device>;
  onReady?: () => void;
  /** Before every step: the rank lives. */
  onStep?: () => void;
}

/**
 * Loads this rank's part as rank 0 says, then replays its step plans in order, until the group ends.
 * @throws RuntimeError `RANK_LOST` when rank 0 or a neighbour is gone; NereidError when this rank cannot go on: rank 0 has been told
 */
export async function followLeader(options: FollowerOptions): Promise<never> {
  const leader = options.group.mesh.link(0);
  try {
    const { model, device } = await load(options);
    options.onReady?.();
    try {
      return await replay(model, options);
    } finally {
      model.close();
      device.close();
    }
  } catch (thrown) {
    const code = thrown instanceof NereidError ? thrown.code : 'ENGINE_FAILED';
    leader.sendJson('failed', { code, message: messageOf(thrown).slice(0, 5_000) });
    throw thrown;
  }
}

async function load(options: FollowerOptions): Promise<{ device: Device; model: DeviceModel }> {
  const { group, collective, source, threads } = options;
  const leader = group.mesh.link(0);
  const settings = parseSettings(await leader.nextJson('settings'));
  const { contextLength, batchTokensMax, kvDtype } = settings;
  const device = await options.openDevice(settings.device);
  const loadOptions = { batchTokensMax, kvDtype, threads, ...(collective && { collective }) };
  const weights = await device.load({ ...source, contextLength }, loadOptions);
  leader.sendJson('facts', factsOf(weights));
  const model = await weights.allocateKv(parseAllocate(await leader.nextJson('allocate')));
  leader.sendJson('allocated', {});
  return { device, model };
}

async function replay(model: DeviceModel, options: FollowerOptions): Promise<never> {
  const { group, source, onStep } = options;
  const { rank } = group.mesh.identity;
  const leader = group.mesh.link(0);
  const answers = group.isLastStage && rank === group.resultRank;
  let inFlight = 0;
  for (;;) {
    const batch = decodeStep(await leader.next('step'));
    onStep?.();
    const rows = batch.tokens.length;
    if (rows > 0 && !group.isFirstStage)
      batch.hidden = decodeHidden(await group.neighbour(-1).next('hidden'), rows);
    // Nobody reads this rank's choices, unless it takes them itself in the next step.
    if (!answers && model.inFlightStepsMax === 1) plainWants(batch.outputs.wants);
    if (group.isLastStage && !answers) {
      inFlight = await follow(model, batch, inFlight);
      continue;
    }
    const result = await runStep(model, batch);
    if (rows === 0) continue;
    if (!group.isLastStage) {
      const hidden = definite(result.output.hidden, 'what a stage hands on');
      group.neighbour(1).send('hidden', encodeHidden(hidden));
    } else if (answers) leader.send('result', encodeResult(result, batch.outputs, source.vocabularySize));
  }
}

/**
 * A step whose result nobody here waits for: as many as the device takes are in flight, as on rank 0, which would wait for this rank otherwise.
 * @returns the steps in flight now
 */
async function follow(model: DeviceModel, batch: StepBatch, inFlight: number): Promise<number> {
  let left = inFlight;
  for (; left >= model.inFlightStepsMax; left--) await model.collect();
  model.launch(batch);
  // One that takes a single step has it done when it is collected.
  if (model.inFlightStepsMax > 1) return left + 1;
  await model.collect();
  return left;
}

/** Who chooses no tokens needs no more than logits; which rows have any, all ranks must agree on. */
function plainWants(wants: Uint8Array): void {
  for (const [row, wanted] of wants.entries()) {
    wants[row] = (wanted & want.hidden) | (wanted & (want.token | want.logits) ? want.logits : 0);
  }
}

function runStep(model: DeviceModel, batch: StepBatch): StepResult | Promise<StepResult> {
  assert(batch.serial >= 0, 'steps count from 0');
  model.launch(batch);
  return model.collect();
}

import type { Device, DeviceModel, DeviceModelOptions, DeviceModelSource } from '../../src/device/device.ts';
import {
  baseModel,
  type KvOperations,
  kvOperation,
  noKvOperations,
  type SamplingTable,
  type StepBatch,
  type StepOutput,
  type StepResult,
  want,
} from '../../src/device/step.ts';

/** One sequence's next rows in a step. */
export interface Extension {
  /** Its block, where a block holds a whole sequence. */
  slot?: number;
  /** Its blocks, where it has several. */
  blocks?: readonly number[];
  /** The slot of its adapter; default the model as it is. */
  adapter?: number;
  /** Positions that it holds before the step. */
  position: number;
  tokens: readonly number[];
}

/** What is asked of a step's output rows. */
export interface StepWishes {
  /** Rows of the batch; default all. */
  outputRows?: readonly number[];
  /** Bits of `want` for all of them, or for each; default logits. */
  wants?: number | readonly number[];
  /** By output row; the rest stays plain. */
  sampling?: Partial<Omit<SamplingTable, 'loads'>> & Partial<Pick<SamplingTable, 'loads'>>;
  kv?: KvOperations;
}

/** Loads a model with a KV cache of `slots` whole sequences, or of blocks. */
export async function loadModel(
  device: Device,
  source: DeviceModelSource,
  options: DeviceModelOptions & { slots: number; blockPositions?: number; hostBlocks?: number },
): Promise<DeviceModel> {
  const weights = await device.load(source, options);
  const blockPositions = options.blockPositions ?? source.contextLength;
  const blocks = options.slots * Math.ceil(source.contextLength / blockPositions);
  return weights.allocateKv({ blocks, blockPositions, hostBlocks: options.hostBlocks ?? 0 });
}

const serials = new WeakMap<DeviceModel, number>();

/** A batch over these sequences, as an engine would assemble it. */
export function batchOf(
  model: DeviceModel,
  extensions: readonly Extension[],
  wishes: StepWishes = {},
): StepBatch {
  const serial = (serials.get(model) ?? -1) + 1;
  const tokens = extensions.flatMap((extension) => extension.tokens);
  const positions = extensions.flatMap(({ tokens: own, position }) => own.map((_, row) => position + row));
  const outputRows = [...(wishes.outputRows ?? tokens.keys())];
  const count = outputRows.length;
  const { wants = want.logits } = wishes;
  const blocks = extensions.map((extension) => extension.blocks ?? [extension.slot ?? -1]);
  const blockStart = [0];
  for (const own of blocks) blockStart.push((blockStart.at(-1) ?? 0) + own.length);
  return {
    serial,
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(positions),
    segments: {
      count: extensions.length,
      rows: Int32Array.from(extensions, ({ tokens: own }) => own.length),
      kvLength: Int32Array.from(extensions, ({ position, tokens: own }) => position + own.length),
      blockStart: Int32Array.from(blockStart),
      blocks: Int32Array.from(blocks.flat()),
      ...(extensions.some(({ adapter }) => adapter !== undefined) && {
        adapter: Int32Array.from(extensions, ({ adapter }) => adapter ?? baseModel),
      }),
    },
    outputs: {
      count,
      rows: Int32Array.from(outputRows),
      wants: Uint8Array.from(outputRows, (_, row) => (typeof wants === 'number' ? wants : (wants[row] ?? 0))),
      sampling: {
        temperature: new Float64Array(count),
        topK: new Int32Array(count),
        topP: new Float64Array(count).fill(1),
        minP: new Float64Array(count),
        seed: new Float64Array(count),
        sequence: new Int32Array(count),
        position: Int32Array.from(outputRows, (row) => (positions[row] ?? 0) + 1),
        state: new Int32Array(count).fill(-1),
        topLogprobs: new Int32Array(count),
        loads: [],
        ...wishes.sampling,
      },
    },
    kv: wishes.kv ?? noKvOperations,
  };
}

/** Launches a step and waits for it. */
export async function runBatch(model: DeviceModel, batch: StepBatch): Promise<StepResult> {
  model.launch(batch);
  serials.set(model, batch.serial);
  return model.collect();
}

/** Runs one step over several sequences. */
export async function runStep(
  model: DeviceModel,
  extensions: readonly Extension[],
  wishes: StepWishes = {},
): Promise<StepOutput> {
  return (await runBatch(model, batchOf(model, extensions, wishes))).output;
}

/** The tokens that the device picks at the wanted rows. */
export async function stepTokens(
  model: DeviceModel,
  extensions: readonly Extension[],
  outputRows?: readonly number[],
): Promise<number[]> {
  const { tokens } = await runStep(model, extensions, { outputRows, wants: want.token });
  return [...tokens];
}

/** The logits of the wanted rows (all, unless given), copied out of the device's buffer. */
export async function stepLogits(
  model: DeviceModel,
  extensions: readonly Extension[],
  outputRows?: readonly number[],
): Promise<Float32Array> {
  const { logits } = await runStep(model, extensions, { outputRows });
  return logits ? logits.values.slice() : new Float32Array(0);
}

/** A KV operation alone, as a column of one. */
export function operation(kind: keyof typeof kvOperation, from: number, to = 0, positions = 0): KvOperations {
  return {
    count: 1,
    kinds: Uint8Array.of(kvOperation[kind]),
    from: Int32Array.of(from),
    to: Int32Array.of(to),
    positions: Int32Array.of(positions),
  };
}

/** Does KV operations in a step without rows. */
export async function operate(model: DeviceModel, kv: KvOperations): Promise<void> {
  await runBatch(model, batchOf(model, [], { kv }));
}

/** The greedy continuation of a prompt in slot 0, which is released afterwards. */
export async function greedyTokens(
  model: DeviceModel,
  prompt: readonly number[],
  count: number,
): Promise<number[]> {
  const made: number[] = [];
  let tokens = prompt;
  let position = 0;
  while (made.length < count) {
    const [next = -1] = await stepTokens(model, [{ slot: 0, position, tokens }], [tokens.length - 1]);
    made.push(next);
    position += tokens.length;
    tokens = [next];
  }
  await operate(model, operation('release', 0));
  return made;
}

/** ‖actual − expected‖ / ‖expected‖. NaN where anything is. */
export function relativeError(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length)
    throw new Error(`${actual.length} values, expected ${expected.length}`);
  let difference = 0;
  let norm = 0;
  for (const [i, value] of expected.entries()) {
    difference += (actual[i]! - value) ** 2;
    norm += value ** 2;
  }
  return Math.sqrt(difference / norm);
}

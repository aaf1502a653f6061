import type { DeviceModel, Segment, StepOutput } from '../../src/device/device.ts';

/** One sequence's next rows in a step. */
export interface Extension {
  slot: number;
  /** Positions that the slot holds before the step. */
  position: number;
  tokens: readonly number[];
}

/** Runs one step over several sequences and returns the output of the wanted rows (all, unless given). */
export async function runStep(
  model: DeviceModel,
  extensions: readonly Extension[],
  want: 'logits' | 'greedy' = 'logits',
  outputRows?: readonly number[],
): Promise<StepOutput> {
  const tokens = extensions.flatMap((extension) => extension.tokens);
  const positions = extensions.flatMap(({ tokens: own, position }) => own.map((_, row) => position + row));
  const segments: Segment[] = extensions.map(({ slot, position, tokens: own }) => ({
    slot,
    rows: own.length,
    kvLength: position + own.length,
  }));
  const { output } = await model.run({
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(positions),
    segments,
    outputRows: Int32Array.from(outputRows ?? tokens.keys()),
    want,
  });
  return output;
}

/** As {@link runStep}, copied out of the device's buffer. */
export async function stepLogits(
  model: DeviceModel,
  extensions: readonly Extension[],
  outputRows?: readonly number[],
): Promise<Float32Array> {
  const output = await runStep(model, extensions, 'logits', outputRows);
  if (output.kind !== 'logits') throw new Error(`asked for logits, got ${output.kind}`);
  return output.logits.slice();
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
    const output = await runStep(model, [{ slot: 0, position, tokens }], 'greedy', [tokens.length - 1]);
    const next = output.kind === 'tokens' ? output.tokens[0]! : likeliest(output);
    made.push(next);
    position += tokens.length;
    tokens = [next];
  }
  model.releaseSlot(0);
  return made;
}

function likeliest(output: Exclude<StepOutput, { kind: 'tokens' }>): number {
  const best = output.logits.indexOf(output.logits.reduce((a, b) => Math.max(a, b)));
  return output.kind === 'candidates' ? output.ids[best]! : best;
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

import type { DeviceModel } from '../../src/device/device.ts';
import { noKvOperations, type StepBatch, want } from '../../src/device/step.ts';

let serial = 0;

function batchOf(segments: { block: number; position: number; tokens: readonly number[] }[]): StepBatch {
  const count = segments.length;
  const ends: number[] = [];
  let row = 0;
  for (const { tokens } of segments) {
    row += tokens.length;
    ends.push(row - 1);
  }
  return {
    serial: serial++,
    tokens: Int32Array.from(segments.flatMap(({ tokens }) => [...tokens])),
    positions: Int32Array.from(
      segments.flatMap(({ tokens, position }) => tokens.map((_, i) => position + i)),
    ),
    segments: {
      count,
      rows: Int32Array.from(segments, ({ tokens }) => tokens.length),
      kvLength: Int32Array.from(segments, ({ tokens, position }) => position + tokens.length),
      blockStart: Int32Array.from({ length: count + 1 }, (_, index) => index),
      blocks: Int32Array.from(segments, ({ block }) => block),
    },
    outputs: {
      count,
      rows: Int32Array.from(ends),
      wants: new Uint8Array(count).fill(want.token),
      sampling: {
        temperature: new Float64Array(count),
        topK: new Int32Array(count),
        topP: new Float64Array(count).fill(1),
        minP: new Float64Array(count),
        seed: new Float64Array(count),
        sequence: new Int32Array(count),
        position: new Int32Array(count),
        state: new Int32Array(count).fill(-1),
        topLogprobs: new Int32Array(count),
        loads: [],
      },
    },
    kv: noKvOperations,
  };
}

/** The greedy continuations of all prompts, which run side by side. */
export async function greedyTexts(
  model: DeviceModel,
  prompts: readonly (readonly number[])[],
  count: number,
): Promise<number[][]> {
  const made: number[][] = prompts.map(() => []);
  let next = prompts.map((tokens, block) => ({ block, position: 0, tokens }));
  for (let step = 0; step < count; step++) {
    model.launch(batchOf(next));
    const { output } = await model.collect();
    next = next.map(({ block, position, tokens }, index) => {
      const token = output.tokens[index] as number;
      made[index]?.push(token);
      return { block, position: position + tokens.length, tokens: [token] };
    });
  }
  return made;
}

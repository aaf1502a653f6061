import type { DeviceModel } from '../../src/device/device.ts';
import { want } from '../../src/device/step.ts';
import { batchOf } from '../device/steps.ts';

/** The greedy continuations of all prompts, which run side by side, a block each. */
export async function greedyTexts(
  model: DeviceModel,
  prompts: readonly (readonly number[])[],
  count: number,
): Promise<number[][]> {
  const made: number[][] = prompts.map(() => []);
  let next = prompts.map((tokens, slot) => ({ slot, position: 0, tokens }));
  for (let step = 0; step < count; step++) {
    let end = 0;
    const outputRows = next.map(({ tokens }) => {
      end += tokens.length;
      return end - 1;
    });
    const batch = batchOf(model, next, { outputRows, wants: want.token });
    batch.serial = step;
    model.launch(batch);
    const { output } = await model.collect();
    next = next.map(({ slot, position, tokens }, index) => {
      const token = output.tokens[index] as number;
      made[index]?.push(token);
      return { slot, position: position + tokens.length, tokens: [token] };
    });
  }
  return made;
}

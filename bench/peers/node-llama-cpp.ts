import {
  type Contender,
  type ContenderOptions,
  RunClock,
  type RunTimes,
  type Scenario,
} from './contender.ts';

/** The peer, tuned: flash attention on, the same threads, one batch for all sequences, dispatched at once. */
export async function openContender(options: ContenderOptions): Promise<Contender> {
  const { getLlama, LlamaLogLevel } = await import('node-llama-cpp');
  const { threads, sequences, contextLength } = options;
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    maxThreads: threads,
    logLevel: LlamaLogLevel.error,
  });
  const model = await llama.loadModel({ modelPath: options.modelPath });
  const context = await model.createContext({
    sequences,
    contextSize: contextLength,
    batchSize: 512,
    threads,
    flashAttention: true,
    batching: { dispatchSchedule: 'nextCycle', itemPrioritizationStrategy: 'maximumParallelism' },
  });
  const slots = Array.from({ length: sequences }, () => context.getSequence());

  async function one(
    slot: (typeof slots)[number],
    prompt: number[],
    generate: number,
    clock: RunClock,
  ): Promise<void> {
    let count = 0;
    const stream = slot.evaluate(prompt as Parameters<typeof slot.evaluate>[0], {
      temperature: 0,
      yieldEogToken: true,
    });
    for await (const _ of stream) {
      clock.token(count === 0);
      if (++count === generate) break;
    }
  }

  return {
    async run(scenario: Scenario): Promise<RunTimes> {
      for (const slot of slots) await slot.clearHistory();
      const clock = new RunClock();
      await Promise.all(
        scenario.prompts.map((prompt, i) =>
          one(slots[i] as (typeof slots)[number], prompt, scenario.generate, clock),
        ),
      );
      return clock.times();
    },
  };
}

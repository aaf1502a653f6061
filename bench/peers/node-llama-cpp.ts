import {
  type Contender,
  type ContenderOptions,
  RunClock,
  type RunTimes,
  type Scenario,
} from './contender.ts';

/**
 * The peer, tuned: flash attention on, the same threads, one batch for all sequences, dispatched at once, and a context with just as
 * many sequences as the scenario has (a single stream is faster in a context of its own).
 */
export async function openContender(options: ContenderOptions): Promise<Contender> {
  const { getLlama, LlamaLogLevel } = await import('node-llama-cpp');
  const { threads, contextLength } = options;
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    maxThreads: threads,
    logLevel: LlamaLogLevel.error,
  });
  const model = await llama.loadModel({ modelPath: options.modelPath });

  async function createSlots(sequences: number) {
    const context = await model.createContext({
      sequences,
      contextSize: contextLength,
      batchSize: 512,
      threads,
      flashAttention: true,
      batching: { dispatchSchedule: 'nextCycle', itemPrioritizationStrategy: 'maximumParallelism' },
    });
    return { context, sequences: Array.from({ length: sequences }, () => context.getSequence()) };
  }
  let slots: Awaited<ReturnType<typeof createSlots>> | undefined;

  async function one(index: number, prompt: number[], generate: number, clock: RunClock): Promise<void> {
    const slot = slots?.sequences[index];
    if (!slot) throw new Error(`no sequence ${index}`);
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
      if (slots?.sequences.length !== scenario.prompts.length) {
        await slots?.context.dispose();
        slots = await createSlots(scenario.prompts.length);
      }
      for (const slot of slots.sequences) await slot.clearHistory();
      const clock = new RunClock();
      await Promise.all(
        scenario.prompts.map((prompt, index) => one(index, prompt, scenario.generate, clock)),
      );
      return clock.times();
    },
  };
}

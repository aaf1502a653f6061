import { openEngine } from '../../src/builder/open-engine.ts';
import { LocalEngine } from '../../src/runtime/local-engine.ts';
import { loadModel } from '../../src/runtime/process/load-model.ts';
import { greedySampling } from '../../src/runtime/requests/request.ts';
import {
  type Contender,
  type ContenderOptions,
  RunClock,
  type RunTimes,
  type Scenario,
} from './contender.ts';

/** Nereid as a library in this process: the same scheduler, loop, sampler and device that `nereid serve` runs in its engine process. */
export async function openContender(options: ContenderOptions): Promise<Contender> {
  const { threads, sequences, contextLength } = options;
  const { source } = await openEngine(options.modelPath);
  const { model, options: core } = await loadModel('bench', source, {
    device: 'ggml',
    deviceOptions: {},
    slots: sequences,
    batchTokensMax: 512,
    kvDtype: 'f16',
    threads,
    contextLength,
    prefixReuse: false,
  });
  const engine = new LocalEngine(model, core);
  let positionsMax = 0;

  function one(prompt: number[], generate: number, clock: RunClock): Promise<void> {
    return new Promise((resolve, reject) => {
      let count = 0;
      engine.submit(
        {
          promptTokens: Int32Array.from(prompt),
          sampling: greedySampling,
          maxTokens: generate,
          minTokens: 0,
          stopTokenIds: [],
          sequences: 1,
          priority: 0,
        },
        (event) => {
          for (const _ of event.tokens) clock.token(count++ === 0);
          if (event.error) reject(new Error(event.error.message));
          else if (event.finish) resolve();
        },
      );
    });
  }

  return {
    async run(scenario: Scenario): Promise<RunTimes> {
      const positions = scenario.prompts.reduce((sum, prompt) => sum + prompt.length + scenario.generate, 0);
      positionsMax = Math.max(positionsMax, positions);
      const clock = new RunClock();
      await Promise.all(scenario.prompts.map((prompt) => one(prompt, scenario.generate, clock)));
      return clock.times();
    },
    accountedBytes: () => model.weightBytes + positionsMax * model.kv.bytesPerPosition,
  };
}

/**
 * npm run bench:guidance -- [--rounds 7] [--tokens 96] [--threads 2] [--models smollm2-135m-instruct,nereid-16m] [--only greedy|drawn]
 *
 * What a guide costs: 16 sequences whose answers keep to a JSON schema against 16 of the same prompts that say what they like, turn and turn about in
 * one engine. Every answer has the same length, so that both keep 16 rows a step. Bar: at least 0.95 of the unguided tokens a second.
 */
import { parseArgs } from 'node:util';
import { ensureEngine } from '../src/artifact/resolver.ts';
import { tokenizerFolderName } from '../src/builder/engine-folder.ts';
import { openEngine } from '../src/builder/open-engine.ts';
import { silentReporter } from '../src/builder/reporter.ts';
import type { DeviceModel } from '../src/device/device.ts';
import { jsonSchemaGrammar } from '../src/runtime/guidance/grammar/json-schema.ts';
import type { Guide } from '../src/runtime/guidance/guide.ts';
import { EngineCore, type EngineCoreOptions } from '../src/runtime/loop/engine-core.ts';
import { loadModel } from '../src/runtime/process/load-model.ts';
import { greedySampling } from '../src/runtime/requests/request.ts';
import { renderChatFor } from '../src/tokenizer/chat-template.ts';
import { openTokenizer } from '../src/tokenizer/open.ts';
import { ratios, summary } from './support/statistics.ts';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    tokens: { type: 'string', default: '96' },
    threads: { type: 'string', default: '2' },
    models: { type: 'string', default: 'smollm2-135m-instruct,nereid-16m' },
    only: { type: 'string' },
  },
});
const rounds = Number(flags.rounds);
const tokens = Number(flags.tokens);
const sequences = 16;

/** Long enough that no answer comes to its end. */
const schema = {
  type: 'array',
  minItems: 40,
  items: {
    type: 'object',
    properties: {
      name: { type: 'string', minLength: 3, maxLength: 40 },
      kind: { enum: ['person', 'place', 'animal', 'thing'] },
      age: { type: 'integer', minimum: 0, maximum: 120 },
      tags: { type: 'array', items: { type: 'string', maxLength: 20 }, minItems: 1, maxItems: 3 },
    },
    required: ['name', 'kind', 'age', 'tags'],
    additionalProperties: false,
  },
};
const guide: Guide = { kind: 'grammar', source: jsonSchemaGrammar(schema) };
const drawnSampling = { ...greedySampling, temperature: 1 };

interface Run {
  tokensPerSecond: number;
  /** Of a step, in milliseconds. */
  stepMs: number;
  computeMs: number;
  rowsPerStep: number;
}

/** One engine, and requests of one form and another for it. */
class Arrangement {
  readonly #core: EngineCore;
  readonly #model: DeviceModel;
  readonly #prompts: readonly Int32Array[];
  #wake = () => {};
  #tokens = 0;
  #id = 0;

  static async open(name: string): Promise<Arrangement> {
    const engine = await ensureEngine(name, { reporter: silentReporter });
    const { source } = await openEngine(engine.folder);
    const folder = `${engine.folder}/${tokenizerFolderName}`;
    const { model, options } = await loadModel(name, source, {
      device: 'ggml',
      deviceOptions: {},
      threads: Number(flags.threads),
      slots: sequences,
      batchTokensMax: 512,
      kvDtype: 'f16',
      contextLength: 512,
      prefixReuse: false,
    });
    const tokenizer = await openTokenizer(folder);
    const prompts = Array.from({ length: sequences }, (_, index) => {
      const question = `Write a JSON list of ${index + 3} things that one finds in a harbour.`;
      const messages = [{ role: 'user', content: question }];
      const text = renderChatFor(tokenizer, undefined, { messages, addGenerationPrompt: true });
      return tokenizer.encode(text, { addSpecialTokens: false });
    });
    return new Arrangement(model, { ...options, vocabulary: { folder } }, prompts);
  }

  constructor(model: DeviceModel, options: EngineCoreOptions, prompts: readonly Int32Array[]) {
    this.#model = model;
    this.#prompts = prompts;
    this.#core = new EngineCore(model, { ...options, onRunnable: () => this.#wake() }, (events) => {
      for (const event of events) {
        if (event.error) throw event.error;
        this.#tokens += event.tokens.length;
      }
    });
  }

  async run(isGuided: boolean, isDrawn: boolean): Promise<Run> {
    const core = this.#core;
    this.#tokens = 0;
    const before = core.statistics();
    for (const [index, promptTokens] of this.#prompts.entries()) {
      const sampling = { ...(isDrawn ? drawnSampling : greedySampling), seed: index };
      const fixed = { maxTokens: tokens, minTokens: 0, stopTokenIds: [], sequences: 1, priority: 0 };
      core.submit({ id: this.#id++, promptTokens, sampling, ...fixed, ...(isGuided && { guide }) });
    }
    const startMs = performance.now();
    while (!core.isEmpty) {
      if (core.hasRunnable) await core.step();
      // As the engine process, which reads its socket between steps.
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        if (core.hasRunnable || core.isEmpty) setImmediate(resolve);
      });
    }
    const seconds = (performance.now() - startMs) / 1000;
    const after = core.statistics();
    const steps = after.steps - before.steps;
    return {
      tokensPerSecond: this.#tokens / seconds,
      stepMs: (after.stepNs - before.stepNs) / steps / 1e6,
      computeMs: (after.computeNs - before.computeNs) / steps / 1e6,
      rowsPerStep: this.#tokens / steps,
    };
  }

  async close(): Promise<void> {
    await this.#core.close();
    this.#model.close();
  }
}

for (const name of flags.models.split(',')) {
  const model = await Arrangement.open(name);
  for (const kind of ['greedy', 'drawn']) {
    if (flags.only && flags.only !== kind) continue;
    const plain: Run[] = [];
    const guided: Run[] = [];
    for (let round = -1; round < rounds; round++) {
      const own = await model.run(false, kind === 'drawn');
      const other = await model.run(true, kind === 'drawn');
      // The first ones record graphs and compile the grammar.
      if (round >= 0) plain.push(own) && guided.push(other);
    }
    const rate = (runs: readonly Run[]) => runs.map(({ tokensPerSecond }) => tokensPerSecond);
    console.log(`${name}, ${kind}, ${sequences} sequences of ${tokens} tokens, ${flags.threads} threads`);
    for (const [label, runs] of [
      ['unguided', plain],
      ['guided', guided],
    ] as const) {
      const part = (of: (run: Run) => number) => summary(runs.map(of), 2);
      console.log(
        `  ${label.padEnd(9)} ${summary(rate(runs))} tokens/s; a step ${part(({ stepMs }) => stepMs)} ms, of it the device ` +
          `${part(({ computeMs }) => computeMs)} ms; ${part(({ rowsPerStep }) => rowsPerStep)} tokens a step`,
      );
    }
    console.log(`  ratio ${summary(ratios(rate(guided), rate(plain)), 3)}, bar 0.95`);
  }
  await model.close();
}
process.exit(0);

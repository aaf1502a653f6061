/**
 * npm run bench:speculation -- [--rounds 7] [--threads 2] [--only draft|head|ngram|load]
 *
 * What guessing tokens ahead is worth: the same requests with and without it, interleaved in one process, texts compared. Bars: one stream of
 * nereid-16m with nereid-draft, and one of SmolLM2-135M editing a text by n-gram lookup, at least 1.5 times plain decoding each; 16
 * streams at most 3 % slower, however little the drafts are worth there.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ensureEngine } from '../src/artifact/resolver.ts';
import { tokenizerFolderName } from '../src/builder/engine-folder.ts';
import { openDraftHead } from '../src/builder/open-draft-head.ts';
import { openEngine } from '../src/builder/open-engine.ts';
import { silentReporter } from '../src/builder/reporter.ts';
import { EngineCore } from '../src/runtime/loop/engine-core.ts';
import { type EngineSizes, loadModel } from '../src/runtime/process/load-model.ts';
import { loadSpeculation } from '../src/runtime/process/load-speculation.ts';
import { type GenerationRequest, greedySampling } from '../src/runtime/requests/request.ts';
import type { SpeculationSettings } from '../src/runtime/speculation/settings.ts';
import { renderChatFor } from '../src/tokenizer/chat-template.ts';
import { openTokenizer } from '../src/tokenizer/open.ts';
import { ratios, summary } from './support/statistics.ts';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    threads: { type: 'string', default: '2' },
    only: { type: 'string' },
  },
});
const rounds = Number(flags.rounds);
const threads = Number(flags.threads);

interface Arrangement {
  run(
    requests: readonly GenerationRequest[],
  ): Promise<{ tokensPerSecond: number; texts: ReadonlyMap<string, string> }>;
  statistics(): { draftTokens: number; acceptedDraftTokens: number };
}

interface LoadedModel {
  plain: Arrangement;
  speculating: Arrangement;
  encode(question: string): Int32Array;
  stops: readonly number[];
}

const sizes: EngineSizes = {
  device: 'ggml',
  deviceOptions: {},
  threads,
  slots: 16,
  batchTokensMax: 512,
  kvDtype: 'f16',
  prefixReuse: false,
};

/** @param draft the folder of a head, or the name of a draft model */
async function load(name: string, settings: SpeculationSettings, draft?: string): Promise<LoadedModel> {
  const engine = await ensureEngine(name, { reporter: silentReporter });
  const { source } = await openEngine(engine.folder);
  const draftSource =
    draft &&
    (settings.method === 'draft-head'
      ? openDraftHead(draft, source)
      : (await openEngine((await ensureEngine(draft, { reporter: silentReporter })).folder)).source);
  const speculation = await loadSpeculation(settings, source, draftSource || undefined, sizes);
  const { model, options } = await loadModel(name, source, sizes);
  const tokenizer = await openTokenizer(`${engine.folder}/${tokenizerFolderName}`);
  const arrangement = (own: typeof speculation | undefined): Arrangement => {
    let id = 0;
    let first = 0;
    let take: (sequence: string, tokens: number[]) => void = () => {};
    const core = new EngineCore(model, { ...options, inFlightStepsMax: 1, speculation: own }, (events) => {
      for (const { requestId, sequence, tokens } of events) take(`${requestId - first}/${sequence}`, tokens);
    });
    return {
      run: async (requests) => {
        const texts = new Map<string, number[]>();
        let count = 0;
        take = (key, tokens) => {
          texts.set(key, [...(texts.get(key) ?? []), ...tokens]);
          count += tokens.length;
        };
        first = id;
        id += requests.length;
        const startMs = performance.now();
        for (const [index, request] of requests.entries()) core.submit({ ...request, id: first + index });
        while (core.hasRunnable) await core.step();
        const seconds = (performance.now() - startMs) / 1000;
        return {
          tokensPerSecond: count / seconds,
          texts: new Map([...texts].map(([key, one]) => [key, one.join(' ')])),
        };
      },
      statistics: () => core.statistics(),
    };
  };
  return {
    // One after the other on one model: neither changes what the other finds.
    plain: arrangement(undefined),
    speculating: arrangement(speculation),
    encode: (question) =>
      tokenizer.encode(
        renderChatFor(tokenizer, undefined, {
          messages: [{ role: 'user', content: question }],
          addGenerationPrompt: true,
        }),
        { addSpecialTokens: false },
      ),
    stops: tokenizer.stopTokenIds,
  };
}

/** Rates with and without drafts, interleaved, after one run each to warm up. */
async function compare(
  label: string,
  model: LoadedModel,
  requests: readonly GenerationRequest[],
  bar: number,
) {
  const rates = { plain: [] as number[], speculating: [] as number[] };
  let equal = 0;
  let sequences = 0;
  const before = model.speculating.statistics();
  for (let round = -1; round < rounds; round++) {
    const plain = await model.plain.run(requests);
    const speculating = await model.speculating.run(requests);
    for (const [key, text] of plain.texts) {
      sequences++;
      if (speculating.texts.get(key) === text) equal++;
    }
    if (round < 0) continue;
    rates.plain.push(plain.tokensPerSecond);
    rates.speculating.push(speculating.tokensPerSecond);
  }
  const after = model.speculating.statistics();
  const proposed = after.draftTokens - before.draftTokens;
  const accepted = after.acceptedDraftTokens - before.acceptedDraftTokens;
  const gain = summary(ratios(rates.speculating, rates.plain), 2);
  console.log(`${label}: plain ${summary(rates.plain)}, speculating ${summary(rates.speculating)} tokens/s`);
  console.log(
    `  ratio ${gain}, bar ${bar}; ${accepted} of ${proposed} drafts held; ${equal} of ${sequences} texts equal`,
  );
}

function requestOf(promptTokens: Int32Array, maxTokens: number, stops: readonly number[]): GenerationRequest {
  const fixed = { id: 0, sampling: greedySampling, minTokens: 0, sequences: 1, priority: 0 };
  return { ...fixed, promptTokens, maxTokens, stopTokenIds: stops };
}

/** Questions of the model's evaluation that it was not trained with. */
function questions(kind: string, count: number): string[] {
  const lines = readFileSync('models/nereid-16m/eval.jsonl', 'utf8').split('\n');
  const all = lines.filter((line) => line.includes(`"kind": "${kind}"`));
  return all.slice(0, count).map((line) => JSON.parse(line).messages[0].content as string);
}

const story =
  `The old lighthouse stood at the end of the long stone pier, where the grey water of the bay met the open sea. Every evening the keeper
climbed the hundred and twelve steps with a can of oil in his hand, cleaned the great glass, and lit the lamp. Ships far out saw the light and knew
that the rocks were near. When the storm came in the autumn of that year, the keeper stayed awake for three nights, and no ship was lost.`.replaceAll(
    '\n',
    ' ',
  );

if (flags.only === undefined || flags.only === 'head') {
  const model = await load('nereid-16m', { method: 'draft-head' }, 'models/nereid-16m-eagle');
  for (const [index, question] of questions('define', 3).entries()) {
    const asked = requestOf(model.encode(question), 64, model.stops);
    await compare(`nereid-16m + its EAGLE head, one stream, question ${index + 1}`, model, [asked], 1);
  }
}
if (flags.only !== 'ngram' && flags.only !== 'head') {
  const model = await load('nereid-16m', { method: 'draft-model' }, 'models/nereid-draft');
  const one = (question: string) => requestOf(model.encode(question), 64, model.stops);
  if (flags.only !== 'load') {
    for (const [index, question] of questions('define', 3).entries()) {
      await compare(
        `nereid-16m + nereid-draft, one stream, question ${index + 1}`,
        model,
        [one(question)],
        1.5,
      );
    }
  }
  const many = questions('define', 16).map((question) => ({
    ...one(question),
    stopTokenIds: [],
    minTokens: 64,
  }));
  await compare('nereid-16m + nereid-draft, 16 streams', model, many, 0.97);
  const random = Array.from({ length: 16 }, (_, index) =>
    requestOf(
      Int32Array.from({ length: 40 }, (_, at) => 300 + ((at * 37 + index * 101) % 3000)),
      64,
      [],
    ),
  );
  await compare('nereid-16m + nereid-draft, 16 streams of noise', model, random, 0.97);
}
if (flags.only === undefined || flags.only === 'ngram') {
  const model = await load('smollm2-135m-instruct', { method: 'ngram' });
  const prompt = `Here is a text:\n\n${story}\n\nRewrite the text above word for word, but replace "keeper" with "guard".`;
  const edit = requestOf(model.encode(prompt), 128, model.stops);
  await compare('SmolLM2-135M, n-gram lookup, one stream, a text edited', model, [edit], 1.5);
  const many = Array.from({ length: 16 }, (_, index) => ({
    ...edit,
    promptTokens: model.encode(`${index} ${prompt}`),
  }));
  await compare('SmolLM2-135M, n-gram lookup, 16 streams, a text edited', model, many, 0.97);
}
process.exit(0);

/**
 * npm run bench:agreement:reference -- [--model a.gguf,b.gguf] [--tokenizer NAME] [--tokens 48] [--threads 2]
 *
 * What each configuration of the ggml device loses against `reference`, which computes the same weights in float32: a fixed text is fed
 * to both, and at each of its positions the likeliest next token and the text's own log-probability are compared. The text is fed, not
 * made, so one near tie does not send the rest another way.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureEngine } from '../src/artifact/resolver.ts';
import { tokenizerFolderName } from '../src/builder/engine-folder.ts';
import { openEngine } from '../src/builder/open-engine.ts';
import { silentReporter } from '../src/builder/reporter.ts';
import { LocalEngine } from '../src/runtime/local-engine.ts';
import { loadModel } from '../src/runtime/process/load-model.ts';
import type { RequestStart } from '../src/runtime/requests/events.ts';
import { greedySampling } from '../src/runtime/requests/request.ts';
import { openTokenizer } from '../src/tokenizer/open.ts';
import { benchModels } from './support/models.ts';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    tokenizer: { type: 'string', default: 'smollm2-135m-instruct' },
    tokens: { type: 'string', default: '48' },
    threads: { type: 'string', default: '2' },
  },
});
const text =
  'What is the capital of France?\nThe capital of France is Paris, a city on the river Seine. It has about two million people, and it is known ' +
  'for its museums, its cafés and the Eiffel Tower, which was built in 1889 for a world fair. Long before that it was a Roman town called Lutetia.';

/** What a device makes of the text: the likeliest token at each position, its lead over the next one, and the text's log-probabilities. */
interface Reading {
  likeliest: number[];
  leads: number[];
  logprobs: number[];
}

interface Configuration {
  device: string;
  kvDtype: 'f16' | 'f32';
  deviceOptions: Record<string, string>;
}

const configurations: Record<string, Configuration> = {
  'KV f16, repacked kernels (the default)': { device: 'ggml', kvDtype: 'f16', deviceOptions: {} },
  'KV f32, repacked kernels': { device: 'ggml', kvDtype: 'f32', deviceOptions: {} },
  'KV f16, plain kernels': { device: 'ggml', kvDtype: 'f16', deviceOptions: { repack: 'false' } },
  'KV f32, plain kernels': { device: 'ggml', kvDtype: 'f32', deviceOptions: { repack: 'false' } },
};
const reference: Configuration = { device: 'reference', kvDtype: 'f32', deviceOptions: {} };

async function read(path: string, promptTokens: Int32Array, configuration: Configuration): Promise<Reading> {
  const { name, source } = await openEngine(path);
  const { device, model, options } = await loadModel(name, source, {
    ...configuration,
    slots: 1,
    batchTokensMax: promptTokens.length,
    threads: Number(flags.threads),
    contextLength: promptTokens.length + 1,
    prefixReuse: false,
  });
  const engine = new LocalEngine(model, options);
  const request = {
    promptTokens,
    sampling: greedySampling,
    maxTokens: 1,
    minTokens: 0,
    stopTokenIds: [],
    sequences: 1,
    priority: 0,
    promptLogprobs: 2,
  };
  const start = await new Promise<RequestStart>((resolve, reject) => {
    engine.submit(request, (event) => {
      if (event.error) reject(new Error(event.error.message));
      else if (event.start) resolve(event.start);
    });
  });
  await engine.close();
  model.close();
  device.close();
  const entries = (start.promptLogprobs ?? []).filter((entry) => entry !== undefined);
  return {
    likeliest: entries.map((entry) => entry.top.tokens[0] ?? -1),
    leads: entries.map((entry) => (entry.top.logprobs[0] ?? 0) - (entry.top.logprobs[1] ?? 0)),
    logprobs: entries.map((entry) => entry.logprob),
  };
}

// A bare .gguf has no tokenizer beside it; the engine that is built of it does.
const { folder } = await ensureEngine(flags.tokenizer, { reporter: silentReporter });
const tokenizer = await openTokenizer(join(folder, tokenizerFolderName));
const tokens = tokenizer.encode(text).slice(0, Number(flags.tokens));

for (const { name, path } of await benchModels(flags.model)) {
  const right = await read(path, tokens, reference);
  console.log(`${name}: ${right.likeliest.length} positions against reference`);
  for (const [label, configuration] of Object.entries(configurations)) {
    const found = await read(path, tokens, configuration);
    const differing = right.likeliest.flatMap((token, at) => (found.likeliest[at] === token ? [] : [at]));
    const errors = right.logprobs.map((logprob, at) => Math.abs((found.logprobs[at] ?? 0) - logprob));
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
    const widest = Math.max(0, ...differing.map((at) => right.leads[at] ?? 0));
    console.log(
      `  ${label}: same likeliest token at ${right.likeliest.length - differing.length} of ${right.likeliest.length}` +
        ` (widest lead that was lost ${widest.toFixed(3)} nats), log-probability off by ${mean.toFixed(4)} on average, ${Math.max(...errors).toFixed(4)} at most`,
    );
  }
}

/**
 * npm run bench:kv -- [--model ENGINE,…] [--tokens 1024] [--threads 2]
 *
 * What a narrower KV cache costs and saves on ggml: the perplexity of a text under each type, bytes a position, and the time of a decode step
 * behind the whole text. The text is English prose of this repository's documentation.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureEngine } from '../src/artifact/resolver.ts';
import { packageRoot } from '../src/base/entry.ts';
import { tokenizerFolderName } from '../src/builder/engine-folder.ts';
import { openEngine } from '../src/builder/open-engine.ts';
import { silentReporter } from '../src/builder/reporter.ts';
import { LocalEngine } from '../src/runtime/local-engine.ts';
import { loadModel } from '../src/runtime/process/load-model.ts';
import type { RequestStart } from '../src/runtime/requests/events.ts';
import { greedySampling } from '../src/runtime/requests/request.ts';
import { openTokenizer } from '../src/tokenizer/open.ts';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string', default: 'smollm2-135m-instruct' },
    tokens: { type: 'string', default: '1024' },
    threads: { type: 'string', default: '2' },
  },
});
const kvDtypes = ['f32', 'f16', 'q8_0'] as const;
const decodeTokens = 64;

/** Paragraphs of prose: no tables, no code. */
function prose(): string {
  const pages = ['architecture', 'runtime', 'device-ggml', 'speculation', 'sampling', 'routing', 'tokenizer'];
  const text = pages.map((page) => readFileSync(join(packageRoot, `docs/${page}.md`), 'utf8')).join('\n\n');
  return text
    .split('\n\n')
    .filter((paragraph) => /^[A-Z]/.test(paragraph) && !paragraph.includes('|'))
    .join('\n\n');
}

interface Reading {
  perplexity: number;
  bytesPerPosition: number;
  stepMs: number;
}

async function read(
  folder: string,
  tokens: Int32Array,
  kvDtype: (typeof kvDtypes)[number],
): Promise<Reading> {
  const { name, source } = await openEngine(folder);
  const { device, model, options } = await loadModel(name, source, {
    ...{ device: 'ggml', deviceOptions: {}, slots: 1, batchTokensMax: 256, kvDtype },
    threads: Number(flags.threads),
    contextLength: tokens.length + decodeTokens + 1,
    prefixReuse: false,
  });
  const engine = new LocalEngine(model, options);
  let start: RequestStart | undefined;
  const times: number[] = [];
  await new Promise<void>((resolve, reject) => {
    const request = {
      ...{ promptTokens: tokens, sampling: greedySampling, maxTokens: decodeTokens, minTokens: 0 },
      ...{ stopTokenIds: [], sequences: 1, priority: 0, promptLogprobs: 0 },
    };
    engine.submit(request, (event) => {
      if (event.error) reject(new Error(event.error.message));
      start ??= event.start;
      times.push(performance.now());
      if (event.finish) resolve();
    });
  });
  const { bytesPerPosition } = model.kv;
  await engine.close();
  model.close();
  device.close();
  const losses = (start?.promptLogprobs ?? []).flatMap((entry) => (entry ? [-entry.logprob] : []));
  const perplexity = Math.exp(losses.reduce((sum, loss) => sum + loss, 0) / losses.length);
  const steps = times.slice(1).map((at, index) => at - (times[index] ?? at));
  return { perplexity, bytesPerPosition, stepMs: steps.sort((a, b) => a - b)[steps.length >> 1] ?? 0 };
}

for (const reference of (flags.model ?? '').split(',')) {
  const { folder, name } = await ensureEngine(reference, { reporter: silentReporter });
  const tokenizer = await openTokenizer(join(folder, tokenizerFolderName));
  const { source } = await openEngine(folder);
  const room = Math.min(Number(flags.tokens), source.contextLength - decodeTokens - 1);
  const tokens = tokenizer.encode(prose()).slice(0, room);
  console.log(`${name}: ${tokens.length} tokens of prose`);
  for (const kvDtype of kvDtypes) {
    const { perplexity, bytesPerPosition, stepMs } = await read(folder, tokens, kvDtype);
    console.log(
      `  KV ${kvDtype.padEnd(4)}  perplexity ${perplexity.toFixed(4)}  ${bytesPerPosition} bytes a position  ` +
        `decode step behind the text ${stepMs.toFixed(2)} ms`,
    );
  }
}

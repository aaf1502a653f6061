/**
 * npm run bench:agreement -- [--device ggml] [--model a.gguf,b.gguf] [--requests 32] [--sequences 16] [--tokens 64] [--threads 2]
 *
 * How often a request makes the same tokens alone as in a full batch. On the reference and null devices always (a test says so); on
 * ggml and on GPUs kernels depend on the batch's shape, so sums round differently and near ties fall the other way. Prompts are
 * texts that the model itself made, so that it is on its own ground.
 */
import { parseArgs } from 'node:util';
import { SeededRandom } from '../src/base/random.ts';
import { openEngine } from '../src/builder/open-engine.ts';
import type { DeviceModel } from '../src/device/device.ts';
import { LocalEngine } from '../src/runtime/local-engine.ts';
import { loadModel } from '../src/runtime/process/load-model.ts';
import {
  type GenerationRequest,
  greedySampling,
  type SamplingParameters,
} from '../src/runtime/requests/request.ts';
import { benchModels } from './support/models.ts';

const { values: flags } = parseArgs({
  options: {
    device: { type: 'string', default: 'ggml' },
    model: { type: 'string' },
    requests: { type: 'string', default: '32' },
    sequences: { type: 'string', default: '16' },
    tokens: { type: 'string', default: '64' },
    threads: { type: 'string', default: '2' },
    seed: { type: 'string', default: '1' },
  },
});
const requestCount = Number(flags.requests);
const slots = Number(flags.sequences);
const maxTokens = Number(flags.tokens);
const seed = Number(flags.seed);
const promptLength = 32;

const samplings: Record<string, SamplingParameters> = {
  greedy: greedySampling,
  'temperature 0.8, top-p 0.95': { ...greedySampling, temperature: 0.8, topP: 0.95 },
};

type Request = Omit<GenerationRequest, 'id'>;

function request(
  promptTokens: Int32Array,
  sampling: SamplingParameters,
  requestSeed: number,
  tokens: number,
): Request {
  return {
    promptTokens,
    sampling: { ...sampling, seed: requestSeed },
    maxTokens: tokens,
    minTokens: 0,
    stopTokenIds: [],
    sequences: 1,
    priority: 0,
  };
}

function generate(engine: LocalEngine, one: Request): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const tokens: number[] = [];
    engine.submit(one, (event) => {
      tokens.push(...event.tokens);
      if (event.error) reject(new Error(event.error.message));
      else if (event.finish) resolve(tokens);
    });
  });
}

/** Texts that the model makes from single random tokens. */
async function makePrompts(engine: LocalEngine): Promise<Int32Array[]> {
  const random = new SeededRandom(seed);
  const prompts: Int32Array[] = [];
  for (let i = 0; i < requestCount; i++) {
    const start = Int32Array.of(random.integer(engine.description.vocabularySize));
    const sampling = { ...greedySampling, temperature: 0.8, topP: 0.95 };
    const text = await generate(engine, request(start, sampling, seed + i, promptLength));
    prompts.push(Int32Array.of(...start, ...text));
  }
  return prompts;
}

/** Tokens before the first difference. */
function agreedLength(a: readonly number[], b: readonly number[]): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return length;
}

async function compare(
  engine: LocalEngine,
  prompts: Int32Array[],
  label: string,
  sampling: SamplingParameters,
) {
  const requests = prompts.map((prompt, i) => request(prompt, sampling, seed + i, maxTokens));
  const alone: number[][] = [];
  for (const one of requests) alone.push(await generate(engine, one));
  const together = await Promise.all(requests.map((one) => generate(engine, one)));
  let same = 0;
  let agreed = 0;
  for (const [i, tokens] of alone.entries()) {
    const length = agreedLength(tokens, together[i] ?? []);
    agreed += length;
    if (length === tokens.length) same++;
  }
  const total = requestCount * maxTokens;
  // Each request differs at most once before its texts go their own ways: the rate at which a fresh token differs.
  const compared = agreed + (requestCount - same);
  console.log(`  ${label}: ${same} of ${requestCount} texts of ${maxTokens} tokens are the same`);
  console.log(
    `    tokens before the first difference ${((100 * agreed) / total).toFixed(1)} %, ` +
      `token agreement ${((100 * agreed) / compared).toFixed(3)} %`,
  );
}

async function openModel(path: string): Promise<{ model: DeviceModel; engine: LocalEngine; close(): void }> {
  const { name, source } = await openEngine(path);
  const { device, model, options } = await loadModel(name, source, {
    device: flags.device,
    deviceOptions: {},
    slots,
    batchTokensMax: 256,
    kvDtype: 'f16',
    threads: Number(flags.threads),
    contextLength: promptLength + maxTokens + 1,
    prefixReuse: false,
  });
  const engine = new LocalEngine(model, options);
  const close = () => {
    model.close();
    device.close();
  };
  return { model, engine, close };
}

console.log(`alone against ${slots} at once on ${flags.device}, seed ${seed}`);
for (const { name, path } of await benchModels(flags.model)) {
  const { engine, close } = await openModel(path);
  console.log(name);
  const prompts = await makePrompts(engine);
  for (const [label, sampling] of Object.entries(samplings)) await compare(engine, prompts, label, sampling);
  await engine.close();
  close();
}

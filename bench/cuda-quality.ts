// What 8 bits cost on the CUDA device: an engine's perplexity over chats and how often the likeliest token stays the same, 16-bit against fp8
// matrices and KV cache; and
// whether a greedy text depends on the sequences beside it: node --import tsx bench/cuda-quality.ts ENGINE CHATS.jsonl [COUNT] [MODEL-FOLDER]
// With the folder of the checkpoint that the engine was built from, all of it is compared with HF transformers too (python3 with torch).
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openEngine } from '../src/builder/open-engine.ts';
import { openDevice } from '../src/device/cuda/index.ts';
import type { DeviceModel, KvDtype } from '../src/device/device.ts';
import { want } from '../src/device/step.ts';
import { openTokenizer } from '../src/tokenizer/open.ts';
import { batchOf, step } from './cuda-model.ts';

const [folder, chats, count = '400', checkpoint] = process.argv.slice(2);
if (!folder || !chats) throw new Error('which engine, and which file of chats?');
const { source, tokenizerFolder } = await openEngine(folder, { allowReleaseMismatch: true });
const tokenizer = await openTokenizer(tokenizerFolder ?? folder);
const words = source.vocabularySize;

interface Chat {
  messages: { content: string }[];
  expected: string;
}

const texts = readFileSync(chats, 'utf8')
  .trim()
  .split('\n')
  .slice(0, Number(count))
  .map((line) => JSON.parse(line) as Chat)
  .map(({ messages, expected }) => {
    const head = `<|im_start|>user\n${messages[0]?.content}<|im_end|>\n<|im_start|>assistant\n`;
    const encode = (text: string) => [...tokenizer.encode(text, { addSpecialTokens: false })];
    return { head: encode(head), answer: encode(`${expected}<|im_end|>`) };
  });

async function opened(matrices: 'auto' | 'fp8', kvDtype: KvDtype) {
  const device = openDevice({ matrices, activations: 'bf16' });
  const weights = await device.load(source, { batchTokensMax: 512, threads: 1, kvDtype });
  const model = await weights.allocateKv({ blocks: 256, blockPositions: 32, hostBlocks: 0 });
  return { device, model };
}

/** Logits of every row of one sequence's first step, [rows, words]. */
async function logitsOf(model: DeviceModel, tokens: readonly number[]): Promise<Float32Array> {
  const rows = tokens.length;
  const blocks = Array.from({ length: Math.ceil(rows / 32) }, (_, k) => k);
  // As many sequences of one row each have the columns that as many output rows need.
  const columns = batchOf(
    tokens.map((token) => ({ tokens: [token], position: 0, blocks, wants: true })),
    want.token | want.logits,
  ).outputs;
  const batch = batchOf([{ tokens, position: 0, blocks, wants: true }]);
  model.launch({ ...batch, outputs: columns });
  const { output } = await model.collect();
  return Float32Array.from(output.logits?.values.subarray(0, rows * words) ?? []);
}

interface Peer {
  /** The likeliest token at every scored position. */
  choices: number[];
  /** Greedy answers to the first texts' heads: up to 49 tokens, to the end of the text. */
  greedy: number[][];
}

function askTransformers(model: string): Peer {
  const own = mkdtempSync(join(tmpdir(), 'nereid-quality-'));
  const [source, target] = [join(own, 'texts.json'), join(own, 'choices.json')];
  writeFileSync(source, JSON.stringify(texts.map(({ head, answer }) => [head, answer])));
  const script = join(import.meta.dirname, 'support/transformers_choices.py');
  process.stdout.write(execFileSync('python3', [script, model, source, target], { encoding: 'utf8' }));
  return JSON.parse(readFileSync(target, 'utf8')) as Peer;
}

const peer = checkpoint === undefined ? undefined : askTransformers(checkpoint);

/** How much of what a run chose is what transformers chooses. */
async function comparison(choices: readonly number[], matrices: 'auto' | 'fp8', kvDtype: KvDtype) {
  if (!peer) return '';
  const same = choices.filter((token, k) => token === peer.choices[k]).length / choices.length;
  const { device, model } = await opened(matrices, kvDtype);
  const prompts = texts.slice(0, peer.greedy.length).map(({ head }) => head);
  let equal = 0;
  let tokens = 0;
  for (const [s, prompt] of prompts.entries()) {
    const [own] = await greedyOf(model, [prompt]);
    const theirs = peer.greedy[s] ?? [];
    const until = theirs.findIndex((token, k) => token !== own?.[k]);
    if (until < 0) equal++;
    tokens += until < 0 ? theirs.length : until;
  }
  model.close();
  device.close();
  const all = peer.greedy.reduce((sum, text) => sum + text.length, 0);
  return `; transformers' likeliest token at ${(100 * same).toFixed(2)} %, ${equal} of ${prompts.length} greedy answers its own (${tokens} of ${all} tokens before they part)`;
}

/** 49 greedy tokens behind each prompt, all at once. */
async function greedyOf(model: DeviceModel, prompts: readonly number[][]): Promise<number[][]> {
  const tables = prompts.map((_, s) => Array.from({ length: 8 }, (_, k) => s * 8 + k));
  const out: number[][] = [];
  for (const [s, tokens] of prompts.entries()) {
    const { output } = await step(model, [{ tokens, position: 0, blocks: tables[s] ?? [], wants: true }]);
    out.push([output.tokens[0] ?? 0]);
  }
  for (let n = 0; n < 48; n++) {
    const parts = prompts.map((prompt, s) => ({
      ...{ tokens: [out[s]?.at(-1) ?? 0], position: prompt.length + n },
      ...{ blocks: tables[s] ?? [], wants: true },
    }));
    const { output } = await step(model, parts);
    for (const s of prompts.keys()) out[s]?.push(output.tokens[s] ?? 0);
  }
  return out;
}

const best = (row: Float32Array) => row.reduce((at, value, k) => (value > (row[at] ?? 0) ? k : at), 0);

async function run(matrices: 'auto' | 'fp8', kvDtype: KvDtype) {
  const { device, model } = await opened(matrices, kvDtype);
  let loss = 0;
  let scored = 0;
  const choices: number[] = [];
  for (const { head, answer } of texts) {
    const tokens = [...head, ...answer];
    const logits = await logitsOf(model, tokens);
    for (let at = head.length - 1; at < tokens.length - 1; at++) {
      const row = logits.subarray(at * words, (at + 1) * words);
      const most = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
      const total = row.reduce((sum, value) => sum + Math.exp(value - most), 0);
      loss += most + Math.log(total) - (row[tokens[at + 1] ?? 0] ?? 0);
      scored++;
      choices.push(best(row));
    }
  }
  model.close();
  device.close();
  return { perplexity: Math.exp(loss / scored), choices };
}

const plain = await run('auto', 'f16');
console.log(
  `${plain.choices.length} tokens; 16-bit perplexity ${plain.perplexity.toFixed(4)}${await comparison(plain.choices, 'auto', 'f16')}`,
);
for (const [matrices, kvDtype] of [
  ['fp8', 'f16'],
  ['auto', 'fp8'],
  ['fp8', 'fp8'],
] as const) {
  const { perplexity, choices } = await run(matrices, kvDtype);
  const same = choices.filter((token, k) => token === plain.choices[k]).length / choices.length;
  console.log(
    `matrices ${matrices}, KV ${kvDtype}: perplexity ${perplexity.toFixed(4)}, the same likeliest token at ${(100 * same).toFixed(2)} %${await comparison(choices, matrices, kvDtype)}`,
  );
}

/** Greedy texts of each prompt alone, and of all at once. */
async function invariance(): Promise<void> {
  const { device, model } = await opened('auto', 'f16');
  const prompts = texts.slice(0, 16).map(({ head }) => head);
  const alone: number[][] = [];
  for (const prompt of prompts) alone.push(...(await greedyOf(model, [prompt])));
  const together = await greedyOf(model, prompts);
  const same = alone.filter((text, k) => text.join() === together[k]?.join()).length;
  console.log(`greedy texts of 49 tokens, alone and 16 at once: ${same} of ${prompts.length} are the same`);
  model.close();
  device.close();
}

await invariance();

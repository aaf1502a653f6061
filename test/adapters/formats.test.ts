/** One adapter in three formats is the same adapter; what does not fit is refused by name. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadAdapter } from '../../src/builder/adapter.ts';
import { openEngine } from '../../src/builder/open-engine.ts';
import { writeGguf } from '../../src/checkpoint/gguf-writer.ts';
import type { ModelLinear } from '../../src/models/linears.ts';
import { permutedRow } from '../../src/models/transforms.ts';
import { hfGoldens, sourceOfHuggingFace } from '../device/golden-models.ts';
import { temporaryFolder } from '../support/checkpoint-files.ts';
import { writeNpyAdapter } from './npy-adapter.ts';
import { type RandomAdapter, randomAdapter, writePeft } from './random-adapter.ts';

const golden = hfGoldens().find(({ name }) => name === 'llama2')!;
const adapter = (() => {
  const whole = randomAdapter(golden.folder, { seed: 5, rank: 4, modules: /layers/ });
  return { ...whole, parts: whole.parts.filter(({ module }) => /_proj$/.test(module)) };
})();

async function writeGgufAdapter(
  path: string,
  { rank, alpha, parts }: RandomAdapter,
  linears: readonly ModelLinear[],
): Promise<string> {
  const bytes = (values: Float32Array) => new Uint8Array(values.buffer);
  const tensors = parts.flatMap(({ module, inputs, outputs, a, b }) => {
    const { gguf, transform } = linears.find(({ hf }) => hf.includes(module))!;
    const rows = Float32Array.from(b);
    for (let row = 0; transform.kind === 'ropePermutation' && row < outputs; row++) {
      const from = permutedRow(row, outputs, transform.heads) * rank;
      rows.set(b.subarray(from, from + rank), row * rank);
    }
    return [
      { name: `${gguf}.weight.lora_a`, dtype: 'f32' as const, shape: [rank, inputs], data: bytes(a) },
      { name: `${gguf}.weight.lora_b`, dtype: 'f32' as const, shape: [outputs, rank], data: bytes(rows) },
    ];
  });
  const metadata = new Map([
    ['general.architecture', { type: 'string' as const, value: 'llama' }],
    ['general.type', { type: 'string' as const, value: 'adapter' }],
    ['adapter.type', { type: 'string' as const, value: 'lora' }],
    ['adapter.lora.alpha', { type: 'f32' as const, value: alpha }],
  ]);
  await writeGguf(path, { metadata, tensors });
  return path;
}

async function open(folder: string): Promise<ModelLinear[]> {
  const path = join(folder, 'base.gguf');
  await sourceOfHuggingFace(golden.folder, path);
  return (await openEngine(path)).linears();
}

test('PEFT, GGUF and npy say the same', async (t) => {
  const folder = temporaryFolder(t);
  const linears = await open(folder);
  const peft = await loadAdapter(await writePeft(join(folder, 'peft'), adapter), linears);
  assert.equal(peft.parts.length, adapter.parts.length);
  assert.equal(peft.rank, 4);
  const npyFolder = writeNpyAdapter(join(folder, 'npy'), adapter);
  assert.equal((await loadAdapter(npyFolder, linears)).digest, peft.digest);
  const gguf = await writeGgufAdapter(join(folder, 'adapter.gguf'), adapter, linears);
  assert.equal((await loadAdapter(gguf, linears)).digest, peft.digest);
});

test("what does not fit an npy adapter's model is named, in TensorRT-LLM's words where it has them", async (t) => {
  const folder = temporaryFolder(t);
  const linears = await open(folder);
  // Of the first row: the first matrix that the checkpoint lists.
  const cases: [RegExp, (first: number[], all: number[][]) => void][] = [
    [/^lora module moe_gate not enabled for this model/, (first) => first.splice(0, 1, 15)],
    [/^Expected layerId to be in the range \[0, 2\), not 9/, (first) => first.splice(1, 1, 9)],
    [/^lora_weights has to few values for \w+: 640 in a row/, (first) => first.splice(2, 1, 99)],
    [/^it changes layers\.\d\.[\w.]+ twice/, (first, all) => first.splice(0, 3, ...all[1]!)],
    [
      /^module \w+ of layer \d uses DoRA/,
      (_, all) => {
        for (const row of all) row.push(1);
      },
    ],
  ];
  for (const [index, [message, change]] of cases.entries()) {
    const path = writeNpyAdapter(join(folder, `bad-${index}`), adapter, (rows) => change(rows[0]!, rows));
    await assert.rejects(loadAdapter(path, linears), { message });
  }
});

test('an adapter of another model names the module, both shapes and the rank', async (t) => {
  const folder = temporaryFolder(t);
  const linears = await open(folder);
  const [first, ...others] = linears;
  const narrower = [{ ...first!, inputs: 8 }, ...others];
  const peft = await writePeft(join(folder, 'peft'), adapter);
  await assert.rejects(loadAdapter(peft, narrower), {
    code: 'LORA_TENSOR_INVALID',
    message: /q_proj of rank 4 has A of shape \[4,64\].*wants \[4, 8\]/,
  });
  await assert.rejects(loadAdapter(peft, others), { message: /has no linear layer '.*q_proj'; it has/ });
});

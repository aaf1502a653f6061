/** One adapter in three formats is the same adapter; what does not fit is refused by name. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadAdapter } from '../../src/builder/adapter.ts';
import { openEngine } from '../../src/builder/open-engine.ts';
import { writeGguf } from '../../src/checkpoint/gguf-writer.ts';
import type { ModelLinear } from '../../src/models/linears.ts';
import { permutedRow } from '../../src/models/transforms.ts';
import { hfGoldens, sourceOfHuggingFace } from '../device/golden-models.ts';
import { temporaryFolder } from '../support/checkpoint-files.ts';
import { type RandomAdapter, randomAdapter, writePeft } from './random-adapter.ts';

const golden = hfGoldens().find(({ name }) => name === 'llama2')!;
const adapter = (() => {
  const whole = randomAdapter(golden.folder, { seed: 5, rank: 4, modules: /layers/ });
  return { ...whole, parts: whole.parts.filter(({ module }) => /_proj$/.test(module)) };
})();

/** As numpy writes it: version 1, its header filled up to 64 bytes. */
function npy(description: string, shape: readonly number[], data: Uint8Array): Buffer {
  const header = `{'descr': '${description}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`;
  const padded = `${header.padEnd(64 * Math.ceil((header.length + 11) / 64) - 11)}\n`;
  const length = Buffer.alloc(2);
  length.writeUInt16LE(padded.length);
  return Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), length, Buffer.from(padded), data]);
}

const moduleIds: Record<string, number> = {
  q_proj: 1,
  k_proj: 2,
  v_proj: 3,
  o_proj: 4,
  gate_proj: 5,
  down_proj: 6,
  up_proj: 7,
};

const layerOf = (module: string): number => Number(/layers\.(\d+)/.exec(module)?.[1]);

function writeNpy(
  folder: string,
  { rank, alpha, parts }: RandomAdapter,
  change: (rows: number[][]) => void = () => {},
): string {
  const elements = Math.max(...parts.map(({ inputs, outputs }) => rank * (inputs + outputs)));
  const weights = new Float32Array(parts.length * elements);
  const rows = parts.map(({ module, a, b }, row) => {
    weights.set(a, row * elements);
    weights.set(
      b.map((value) => value * (alpha / rank)),
      row * elements + a.length,
    );
    return [moduleIds[module.split('.').at(-1)!]!, layerOf(module), rank];
  });
  change(rows);
  mkdirSync(folder, { recursive: true });
  const bytes = new Uint8Array(weights.buffer);
  writeFileSync(join(folder, 'model.lora_weights.npy'), npy('<f4', [1, parts.length, elements], bytes));
  const config = new Uint8Array(Int32Array.from(rows.flat()).buffer);
  writeFileSync(join(folder, 'model.lora_config.npy'), npy('<i4', [1, rows.length, rows[0]!.length], config));
  return folder;
}

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
  const npyFolder = writeNpy(join(folder, 'npy'), adapter);
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
    const path = writeNpy(join(folder, `bad-${index}`), adapter, (rows) => change(rows[0]!, rows));
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

import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * The models that the recorded cases ask, as a repository's folder. On the genuine server their Python twins did the same: inputs come
 * back as outputs; `repeat` answers an element at a time and `fail` never.
 */
type Tensor = readonly [name: string, type: string, dims: string, isOptional?: boolean];

interface TestModel {
  name: string;
  backend: string;
  batchSizeMax: number;
  inputs: readonly Tensor[];
  outputs: readonly Tensor[];
  more?: string;
  code?: string;
}

const types = ['INT32', 'FP32', 'STRING', 'BOOL', 'INT64', 'UINT8', 'FP16', 'UINT64', 'FP64', 'BF16', 'INT8'];

/** What the cases ask. */
export const testModels: readonly TestModel[] = [
  {
    name: 'ident',
    backend: 'identity',
    batchSizeMax: 0,
    inputs: types.map((type) => [`IN_${type}`, type, '[ -1 ]', true]),
    outputs: types.map((type) => [`OUT_${type}`, type, '[ -1 ]']),
  },
  {
    name: 'batched',
    backend: 'identity',
    batchSizeMax: 8,
    inputs: [
      ['IN', 'INT32', '[ 2 ]'],
      ['TEXT', 'STRING', '[ 1 ]', true],
    ],
    outputs: [
      ['OUT', 'INT32', '[ 2 ]'],
      ['TEXT_OUT', 'STRING', '[ 1 ]'],
    ],
  },
  {
    name: 'single',
    backend: 'identity',
    batchSizeMax: 0,
    inputs: [['IN', 'INT32', '[ -1 ]']],
    outputs: [['OUT', 'INT32', '[ -1 ]']],
  },
  {
    name: 'text',
    backend: 'identity',
    batchSizeMax: 4,
    inputs: [['IN', 'STRING', '[ 1 ]']],
    outputs: [['OUT', 'STRING', '[ 1 ]']],
  },
  {
    name: 'addsub',
    backend: 'identity',
    batchSizeMax: 8,
    inputs: [
      ['INPUT0', 'INT32', '[ 16 ]'],
      ['INPUT1', 'INT32', '[ 16 ]'],
    ],
    outputs: [
      ['OUTPUT0', 'INT32', '[ 16 ]'],
      ['OUTPUT1', 'INT32', '[ 16 ]'],
    ],
  },
  {
    name: 'repeat',
    backend: 'repeat',
    batchSizeMax: 0,
    inputs: [
      ['IN', 'INT32', '[ -1 ]'],
      ['DELAY', 'UINT32', '[ 1 ]', true],
    ],
    outputs: [
      ['OUT', 'INT32', '[ 1 ]'],
      ['IDX', 'UINT32', '[ 1 ]'],
    ],
    more: 'model_transaction_policy { decoupled: true }\n',
  },
];

/** Writes the models into a new folder; returns it. */
export function writeTestModels(models: readonly TestModel[] = testModels): string {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-triton-'));
  for (const { name, backend, batchSizeMax, inputs, outputs, more = '', code } of models) {
    mkdirSync(join(folder, name, '1'), { recursive: true });
    const tensor = (kind: string, [tensorName, type, dims, isOptional]: Tensor): string =>
      `${kind} { name: "${tensorName}" data_type: TYPE_${type} dims: ${dims}${isOptional ? ' optional: true' : ''} }\n`;
    const config =
      `name: "${name}"\nbackend: "${backend}"\nmax_batch_size: ${batchSizeMax}\n` +
      inputs.map((one) => tensor('input', one)).join('') +
      outputs.map((one) => tensor('output', one)).join('') +
      `instance_group { kind: KIND_CPU }\n${more}`;
    writeFileSync(join(folder, name, 'config.pbtxt'), config);
    if (code !== undefined) writeFileSync(join(folder, name, '1', 'model.js'), code);
  }
  return folder;
}

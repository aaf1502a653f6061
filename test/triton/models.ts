import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * The models that the recorded cases ask, as a repository's folder: for Nereid, or for the genuine server with their twins in Python
 * (`python-twins.ts`). Inputs come back as outputs; `repeat` answers an element at a time and `fail` never.
 */
type Tensor = readonly [name: string, type: string, dims: string, more?: string];

export interface TestModel {
  name: string;
  backend: string;
  batchSizeMax: number;
  inputs: readonly Tensor[];
  outputs: readonly Tensor[];
  more?: string;
  /** `1/model.js` of backend `node`. */
  code?: string;
  /** Default: only 1. */
  versions?: readonly number[];
  /** Further files by path under the model's folder. */
  files?: Readonly<Record<string, string>>;
}

const types = ['INT32', 'FP32', 'STRING', 'BOOL', 'INT64', 'UINT8', 'FP16', 'UINT64', 'FP64', 'BF16', 'INT8'];

const optional = ' optional: true';
const policy = 'model_transaction_policy { decoupled: true }\n';

/** `repeat` with a way to fail: of the element -1 comes an error. */
const repeatCode = `export default class Model {
  initialize(context) {
    this.context = context;
  }
  execute(requests) {
    const { tensorOf, valuesOf, ModelError } = this.context;
    for (const request of requests) {
      const values = valuesOf(request.input('IN'), 'INT32');
      values.forEach((value, index) => {
        if (value === -1) {
          request.send({ error: new ModelError('minus one') });
          return;
        }
        const out = tensorOf('OUT', 'INT32', [1], Int32Array.of(value));
        request.send({ outputs: [out, tensorOf('IDX', 'UINT32', [1], Uint32Array.of(index))] });
      });
      request.end();
    }
  }
}
`;
const failCode = `export default class Model {
  execute(requests) {
    return requests.map(() => ({ error: 'it failed' }));
  }
}
`;

const step = (model: string, inputs: Record<string, string>, outputs: Record<string, string>): string => {
  const entries = (kind: string, map: Record<string, string>) =>
    Object.entries(map).map(([key, value]) => `${kind}_map { key: "${key}" value: "${value}" }`);
  return `  step { model_name: "${model}" model_version: -1 ${[...entries('input', inputs), ...entries('output', outputs)].join(' ')} }\n`;
};
const scheduling = (...steps: string[]): string => `ensemble_scheduling {\n${steps.join('')}}\n`;

const ensembles: readonly TestModel[] = [
  {
    name: 'chain',
    backend: 'ensemble',
    batchSizeMax: 0,
    inputs: [['IN', 'INT32', '[ -1 ]']],
    outputs: [['OUT', 'INT32', '[ -1 ]']],
    more: scheduling(
      step('single', { IN: 'IN' }, { OUT: 'middle' }),
      step('single', { IN: 'middle' }, { OUT: 'OUT' }),
    ),
  },
  {
    name: 'maybe',
    backend: 'ensemble',
    batchSizeMax: 8,
    inputs: [
      ['IN', 'INT32', '[ 2 ]'],
      ['TEXT', 'STRING', '[ 1 ]', optional],
    ],
    outputs: [
      ['OUT', 'INT32', '[ 2 ]'],
      ['TEXT_OUT', 'STRING', '[ 1 ]'],
    ],
    more: scheduling(step('batched', { IN: 'IN', TEXT: 'TEXT' }, { OUT: 'OUT', TEXT_OUT: 'TEXT_OUT' })),
  },
  {
    name: 'broken',
    backend: 'ensemble',
    batchSizeMax: 0,
    inputs: [['IN', 'INT32', '[ -1 ]']],
    outputs: [['OUT', 'INT32', '[ -1 ]']],
    more: scheduling(
      step('single', { IN: 'IN' }, { OUT: 'middle' }),
      step('fail', { IN: 'middle' }, { OUT: 'OUT' }),
    ),
  },
  {
    name: 'echoes',
    backend: 'ensemble',
    batchSizeMax: 0,
    inputs: [['IN', 'INT32', '[ -1 ]']],
    outputs: [['OUT', 'INT32', '[ -1 ]']],
    more: scheduling(
      step('repeat', { IN: 'IN' }, { OUT: 'middle' }),
      step('single', { IN: 'middle' }, { OUT: 'OUT' }),
    ),
  },
];

/** What the cases ask. */
export const testModels: readonly TestModel[] = [
  {
    name: 'ident',
    backend: 'identity',
    batchSizeMax: 0,
    inputs: types.map((type) => [`IN_${type}`, type, '[ -1 ]', optional]),
    outputs: types.map((type) => [`OUT_${type}`, type, '[ -1 ]']),
  },
  {
    name: 'batched',
    backend: 'identity',
    batchSizeMax: 8,
    inputs: [
      ['IN', 'INT32', '[ 2 ]'],
      ['TEXT', 'STRING', '[ 1 ]', optional],
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
      ['DELAY', 'UINT32', '[ 1 ]', optional],
    ],
    outputs: [
      ['OUT', 'INT32', '[ 1 ]'],
      ['IDX', 'UINT32', '[ 1 ]'],
    ],
    more: policy,
    code: repeatCode,
  },
  {
    name: 'fail',
    backend: 'node',
    batchSizeMax: 0,
    inputs: [['IN', 'INT32', '[ -1 ]']],
    outputs: [['OUT', 'INT32', '[ -1 ]']],
    code: failCode,
  },
  {
    name: 'versions',
    backend: 'identity',
    batchSizeMax: 0,
    inputs: [['IN', 'INT32', '[ -1 ]']],
    outputs: [['OUT', 'INT32', '[ -1 ]']],
    versions: [1, 2, 3],
    more: 'version_policy { specific { versions: [ 1, 3 ] } }\n',
  },
  {
    name: 'labelled',
    backend: 'identity',
    batchSizeMax: 4,
    inputs: [['IN', 'FP32', '[ 3 ]']],
    outputs: [['OUT', 'FP32', '[ 3 ]', ' label_filename: "labels.txt"']],
    files: { 'labels.txt': 'ape\nbear\ncat\n' },
  },
  {
    name: 'scalar',
    backend: 'identity',
    batchSizeMax: 4,
    inputs: [['IN', 'INT32', '[ 1 ]', ' reshape: { shape: [ ] }']],
    outputs: [['OUT', 'INT32', '[ 1 ]', ' reshape: { shape: [ ] }']],
    more: 'dynamic_batching { preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 100 default_queue_policy { max_queue_size: 8 } }\nparameters { key: "a" value: { string_value: "b" } }\n',
  },
  {
    name: 'matrix',
    backend: 'identity',
    batchSizeMax: 0,
    inputs: [
      ['IN', 'FP32', '[ -1, 3 ]'],
      ['FIXED', 'INT64', '[ 2, 2 ]', optional],
      ['DEEP', 'UINT8', '[ -1, -1 ]', optional],
    ],
    outputs: [
      ['OUT', 'FP32', '[ -1, 3 ]'],
      ['FIXED_OUT', 'INT64', '[ 2, 2 ]'],
      ['DEEP_OUT', 'UINT8', '[ -1, -1 ]'],
    ],
  },
  ...ensembles,
];

/** Writes the models into a new folder, for Nereid or (`twin`) for a genuine tritonserver; returns it. */
export function writeTestModels(twin?: (model: TestModel) => string): string {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-triton-'));
  for (const model of testModels) {
    const { name, batchSizeMax, inputs, outputs, more = '', code, versions = [1], files = {} } = model;
    const backend = twin ? 'python' : code === undefined ? model.backend : 'node';
    const runner = model.backend === 'ensemble' ? 'platform: "ensemble"\n' : `backend: "${backend}"\n`;
    const tensor = (kind: string, [tensorName, type, dims, rest = '']: Tensor): string =>
      `${kind} { name: "${tensorName}" data_type: TYPE_${type} dims: ${dims}${rest} }\n`;
    const config =
      `name: "${name}"\n${runner}max_batch_size: ${batchSizeMax}\n` +
      inputs.map((one) => tensor('input', one)).join('') +
      outputs.map((one) => tensor('output', one)).join('') +
      (model.backend === 'ensemble' ? more : `instance_group { kind: KIND_CPU }\n${more}`);
    for (const version of versions) {
      const versionFolder = join(folder, name, String(version));
      mkdirSync(versionFolder, { recursive: true });
      if (model.backend === 'ensemble') writeFileSync(join(versionFolder, 'placeholder'), '');
      else if (twin) writeFileSync(join(versionFolder, 'model.py'), twin(model));
      else if (code !== undefined) {
        writeFileSync(join(versionFolder, 'model.js'), code);
        // Under the test's loader a folder without it is CommonJS.
        writeFileSync(join(versionFolder, 'package.json'), '{"type":"module"}');
      }
    }
    writeFileSync(join(folder, name, 'config.pbtxt'), config);
    for (const [path, text] of Object.entries(files)) writeFileSync(join(folder, name, path), text);
  }
  return folder;
}

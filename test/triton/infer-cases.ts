import { binary, binaryInput, type HttpCase, infer, int32, of, ones, onlyOut, x } from './http-case.ts';

const inferences: HttpCase[] = [
  infer('plain', { id: 'a1', inputs: [x], ...onlyOut }),
  infer('version', { inputs: [x], ...onlyOut }, 'ident/versions/1'),
  infer('unknown version', { inputs: [x] }, 'ident/versions/3'),
  infer('unknown model', { inputs: [x] }, 'missing'),
  infer('no body', ''),
  infer('not JSON', '{nope'),
  infer('an array', '[]'),
  infer('no inputs', {}),
  infer('inputs no array', { inputs: {} }),
  infer('empty inputs', { inputs: [] }),
  infer('input no object', { inputs: [1] }),
  infer('no name', { inputs: [{ shape: [1], datatype: 'INT32', data: [1] }] }),
  infer('no shape', { inputs: [{ name: 'IN_INT32', datatype: 'INT32', data: [1] }] }),
  infer('no datatype', { inputs: [{ name: 'IN_INT32', shape: [1], data: [1] }] }),
  infer('no data', { inputs: [{ name: 'IN_INT32', shape: [1], datatype: 'INT32' }] }),
  infer('name no string', { inputs: [{ name: 3, shape: [1], datatype: 'INT32', data: [1] }] }),
  infer('datatype unknown', { inputs: [{ ...x, datatype: 'INT33' }] }),
  infer('datatype other', { inputs: [{ ...x, datatype: 'FP32' }] }),
  infer('datatype lower case', { inputs: [{ ...x, datatype: 'int32' }] }),
  infer('shape no array', { inputs: [{ ...x, shape: 2 }] }),
  infer('shape of texts', { inputs: [{ ...x, shape: ['2'] }] }),
  infer('shape negative', { inputs: [{ ...x, shape: [-2] }] }),
  infer('shape fraction', { inputs: [{ ...x, shape: [2.5] }] }),
  infer('shape too long', { inputs: [{ ...x, shape: [3] }] }),
  infer('shape too short', { inputs: [{ ...x, shape: [1] }] }),
  infer('rank too high', { inputs: [{ ...x, shape: [1, 2] }] }),
  infer('shape huge', { inputs: [{ ...x, shape: [2 ** 62] }] }),
  infer('shape product overflows', { inputs: [{ ...x, shape: [4294967296, 4294967296] }] }),
  infer('shape empty', { inputs: [{ ...x, shape: [] }] }),
  infer('zero elements', { inputs: [int32('IN_INT32', [0], [])], ...onlyOut }),
  infer('nested data', { inputs: [int32('IN_INT32', [2], [[1], [2]])], ...onlyOut }),
  infer('ragged data', { inputs: [int32('IN_INT32', [3], [[1], [2, 3]])], ...onlyOut }),
  infer('data a text', { inputs: [int32('IN_INT32', [2], ['1', '2'])], ...onlyOut }),
  infer('data a fraction', { inputs: [int32('IN_INT32', [1], [1.5])], ...onlyOut }),
  infer('data too large', { inputs: [int32('IN_INT32', [1], [3000000000])], ...onlyOut }),
  infer('data null', { inputs: [int32('IN_INT32', [1], [null])], ...onlyOut }),
  infer('data scalar', { inputs: [int32('IN_INT32', [1], 5)], ...onlyOut }),
  infer('data object', { inputs: [int32('IN_INT32', [1], { a: 1 })], ...onlyOut }),
  infer('data bools', { inputs: [int32('IN_INT32', [2], [true, false])], ...onlyOut }),
  infer('unknown input', { inputs: [x, int32('NOPE', [1], [1])] }),
  infer('input twice', { inputs: [x, x], ...onlyOut }),
  infer('unknown output', { inputs: [x], outputs: [{ name: 'NOPE' }] }),
  infer('output twice', { inputs: [x], outputs: [{ name: 'OUT_INT32' }, { name: 'OUT_INT32' }] }),
  infer('outputs empty', { inputs: [x], outputs: [] }),
  infer('outputs no array', { inputs: [x], outputs: 3 }),
  infer('output without name', { inputs: [x], outputs: [{}] }),
  infer('all outputs', { inputs: [x] }),
  infer('id number', { id: 5, inputs: [x], ...onlyOut }),
  infer('id in errors', { id: 'my-id', inputs: [{ ...x, datatype: 'FP32' }] }),
  infer('fp32', of('FP32', [1, 0.1, 1e20, 0.5e-7])),
  infer('fp32 integers', of('FP32', [1, 2, 3])),
  infer('fp64', of('FP64', [1, 0.1, 1e300])),
  infer('bool', of('BOOL', [true, false])),
  infer('bool numbers', of('BOOL', [1, 0])),
  infer('int64', of('INT64', [1, -(2 ** 53)])),
  infer(
    'uint64',
    '{"inputs":[{"name":"IN_UINT64","shape":[2],"datatype":"UINT64","data":[18446744073709551615,1]}],"outputs":[{"name":"OUT_UINT64"}]}',
  ),
  infer(
    'int64 exact',
    '{"inputs":[{"name":"IN_INT64","shape":[2],"datatype":"INT64","data":[9223372036854775807,-9223372036854775808]}],"outputs":[{"name":"OUT_INT64"}]}',
  ),
  infer('uint64 negative', of('UINT64', [-1])),
  infer('uint8', of('UINT8', [0, 255])),
  infer('uint8 too large', of('UINT8', [256])),
  infer('uint8 negative', of('UINT8', [-1])),
  infer('int8', of('INT8', [-128, 127])),
  infer('bytes', of('BYTES', ['a', '', 'é"\n'])),
  infer('NaN', '{"inputs":[{"name":"IN_FP32","shape":[1],"datatype":"FP32","data":[NaN]}]}'),
  infer(
    'float written as 1.0 for an integer',
    '{"inputs":[{"name":"IN_INT32","shape":[1],"datatype":"INT32","data":[1.0]}]}',
  ),
  infer('float as text', of('FP32', ['1'])),
  infer('bytes nested', of('BYTES', [['a'], ['b']], [2, 1])),
  infer('trailing comma', '{"inputs":[],}'),
  infer('no end', '{"inputs":['),
  infer('two values', '{} {}'),
  infer('bad escape', '{"a":"\\x"}'),
  infer('bad number', '{"a":01}'),
  infer('no colon', '{"a" 1}'),
  infer('no fraction', '{"a":1.}'),
  infer('no comma', '[1 2]'),
  infer('bytes numbers', of('BYTES', [1])),
  infer('fp16 in JSON', of('FP16', [1])),
  infer('bf16 in JSON', of('BF16', [1])),
  infer('batched', { inputs: [int32('IN', [2, 2], [1, 2, 3, 4])] }, 'batched'),
  infer(
    'batch too large',
    {
      inputs: [
        int32(
          'IN',
          [9, 2],
          Array.from({ length: 18 }, () => 1),
        ),
      ],
    },
    'batched',
  ),
  infer('batch zero', { inputs: [int32('IN', [0, 2], [])] }, 'batched'),
  infer(
    'batch sizes differ',
    {
      inputs: [
        int32('IN', [2, 2], [1, 2, 3, 4]),
        { name: 'TEXT', shape: [1, 1], datatype: 'BYTES', data: ['a'] },
      ],
    },
    'batched',
  ),
  infer('batch shape wrong', { inputs: [int32('IN', [1, 3], [1, 2, 3])] }, 'batched'),
  infer('batch rank wrong', { inputs: [int32('IN', [2], [1, 2])] }, 'batched'),
  infer(
    'missing input',
    { inputs: [{ name: 'TEXT', shape: [1, 1], datatype: 'BYTES', data: ['a'] }] },
    'batched',
  ),
  infer(
    'missing one of two',
    {
      inputs: [
        int32(
          'INPUT0',
          [1, 16],
          Array.from({ length: 16 }, () => 1),
        ),
      ],
    },
    'addsub',
  ),
  infer(
    'missing, with an id',
    {
      id: 'q',
      inputs: [
        int32(
          'INPUT0',
          [1, 16],
          Array.from({ length: 16 }, () => 1),
        ),
      ],
    },
    'addsub',
  ),
  infer(
    'too many inputs',
    {
      inputs: ['INPUT0', 'INPUT1', 'INPUT2'].map((name) =>
        int32(
          name,
          [1, 16],
          Array.from({ length: 16 }, () => 1),
        ),
      ),
    },
    'addsub',
  ),
  infer(
    'bytes batched',
    {
      inputs: [
        int32('IN', [1, 2], [1, 2]),
        { name: 'TEXT', shape: [1, 1], datatype: 'BYTES', data: ['hallo'] },
      ],
    },
    'batched',
  ),
  infer('failing model', { inputs: [int32('IN', [1], [1])] }, 'fail'),
  infer('failing model with id', { id: 'f1', inputs: [int32('IN', [1], [1])] }, 'fail'),
  infer('decoupled', { inputs: [int32('IN', [1], [1])] }, 'repeat'),
];

const parameters: HttpCase[] = [
  infer('parameters no object', { inputs: [x], parameters: 3, ...onlyOut }),
  infer('parameters custom', { inputs: [x], parameters: { a: 1, b: 'x', c: true, d: 1.5 }, ...onlyOut }),
  infer('parameter null', { inputs: [x], parameters: { a: null }, ...onlyOut }),
  infer('parameter array', { inputs: [x], parameters: { a: [1] }, ...onlyOut }),
  infer('parameter reserved', { inputs: [x], parameters: { triton_x: 1 }, ...onlyOut }),
  infer('sequence_id', { inputs: [x], parameters: { sequence_id: 7 }, ...onlyOut }),
  infer('sequence_id text', { inputs: [x], parameters: { sequence_id: 'seven' }, ...onlyOut }),
  infer('sequence_id bool', { inputs: [x], parameters: { sequence_id: true }, ...onlyOut }),
  infer('sequence_start text', { inputs: [x], parameters: { sequence_start: 'yes' }, ...onlyOut }),
  infer('sequence_end number', { inputs: [x], parameters: { sequence_end: 1 }, ...onlyOut }),
  infer('priority text', { inputs: [x], parameters: { priority: 'high' }, ...onlyOut }),
  infer('priority negative', { inputs: [x], parameters: { priority: -1 }, ...onlyOut }),
  infer('timeout text', { inputs: [x], parameters: { timeout: 'x' }, ...onlyOut }),
  infer('binary_data_output text', { inputs: [x], parameters: { binary_data_output: 'x' }, ...onlyOut }),
  infer('binary_data_output', { inputs: [x], parameters: { binary_data_output: true }, ...onlyOut }),
  infer('binary_data', { inputs: [x], outputs: [{ name: 'OUT_INT32', parameters: { binary_data: true } }] }),
  infer('binary_data text', {
    inputs: [x],
    outputs: [{ name: 'OUT_INT32', parameters: { binary_data: 'x' } }],
  }),
  infer('binary_data false over all', {
    inputs: [x],
    parameters: { binary_data_output: true },
    outputs: [{ name: 'OUT_INT32', parameters: { binary_data: false } }],
  }),
  infer('output parameters no object', { inputs: [x], outputs: [{ name: 'OUT_INT32', parameters: 3 }] }),
  infer('input parameters unknown', { inputs: [{ ...x, parameters: { a: 1 } }], ...onlyOut }),
  infer('classification', {
    inputs: [{ name: 'IN_FP32', shape: [4], datatype: 'FP32', data: [1, 4, 2, 3] }],
    outputs: [{ name: 'OUT_FP32', parameters: { classification: 2 } }],
  }),
  infer('classification more than there are', {
    inputs: [{ name: 'IN_FP32', shape: [2], datatype: 'FP32', data: [1, 4] }],
    outputs: [{ name: 'OUT_FP32', parameters: { classification: 5 } }],
  }),
  infer('classification integers', {
    inputs: [x],
    outputs: [{ name: 'OUT_INT32', parameters: { classification: 1 } }],
  }),
  infer(
    'classification batched',
    {
      inputs: [int32('IN', [2, 2], [1, 2, 4, 3])],
      outputs: [{ name: 'OUT', parameters: { classification: 1 } }],
    },
    'batched',
  ),
  infer('classification zero', {
    inputs: [x],
    outputs: [{ name: 'OUT_INT32', parameters: { classification: 0 } }],
  }),
  infer('classification text', {
    inputs: [x],
    outputs: [{ name: 'OUT_INT32', parameters: { classification: 'a' } }],
  }),
  infer('classification negative', {
    inputs: [x],
    outputs: [{ name: 'OUT_INT32', parameters: { classification: -1 } }],
  }),
  infer('classification binary', {
    inputs: [x],
    outputs: [{ name: 'OUT_INT32', parameters: { classification: 1, binary_data: true } }],
  }),
];

const binaries: HttpCase[] = [
  binary(
    'NaN out',
    { inputs: [{ name: 'IN_FP32', shape: [2], datatype: 'FP32', parameters: { binary_data_size: 8 } }] },
    [Buffer.from(Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY).buffer)],
  ),
  binary('in', binaryInput(8), [ones(1, 2)]),
  binary('in and out', { ...binaryInput(8), parameters: { binary_data_output: true } }, [ones(1, 2)]),
  binary('all out', { inputs: binaryInput(8).inputs, parameters: { binary_data_output: true } }, [
    ones(1, 2),
  ]),
  binary('size too small', binaryInput(4), [ones(1, 2)]),
  binary('size too large', binaryInput(12), [ones(1, 2)]),
  binary('size does not fit the shape', binaryInput(12), [ones(1, 2, 3)]),
  binary('size negative', binaryInput(-1), [ones(1, 2)]),
  binary('size a text', binaryInput('8'), [ones(1, 2)]),
  binary('bytes left over', binaryInput(8), [ones(1, 2, 3)]),
  binary('no bytes', binaryInput(8), []),
  binary('header length too large', binaryInput(8), [ones(1, 2)], 'ident', '100000'),
  binary('header length too small', binaryInput(8), [ones(1, 2)], 'ident', '10'),
  binary('header length no number', binaryInput(8), [ones(1, 2)], 'ident', 'abc'),
  binary('header length negative', binaryInput(8), [ones(1, 2)], 'ident', '-5'),
  infer('binary: size without the header', JSON.stringify(binaryInput(8))),
  binary('data and size', { inputs: [{ ...x, parameters: { binary_data_size: 8 } }], ...onlyOut }, [
    ones(1, 2),
  ]),
  binary(
    'fp16',
    {
      inputs: [{ name: 'IN_FP16', shape: [2], datatype: 'FP16', parameters: { binary_data_size: 4 } }],
      outputs: [{ name: 'OUT_FP16', parameters: { binary_data: true } }],
    },
    [Buffer.from([0, 0x3c, 0, 0x40])],
  ),
  binary(
    'fp16 out in JSON',
    {
      inputs: [{ name: 'IN_FP16', shape: [2], datatype: 'FP16', parameters: { binary_data_size: 4 } }],
      outputs: [{ name: 'OUT_FP16' }],
    },
    [Buffer.from([0, 0x3c, 0, 0x40])],
  ),
  binary(
    'bytes',
    {
      inputs: [{ name: 'IN_STRING', shape: [2], datatype: 'BYTES', parameters: { binary_data_size: 10 } }],
      outputs: [{ name: 'OUT_STRING' }],
    },
    [Buffer.from([1, 0, 0, 0, 0x61, 1, 0, 0, 0, 0x62])],
  ),
  binary(
    'bytes cut',
    {
      inputs: [{ name: 'IN_STRING', shape: [2], datatype: 'BYTES', parameters: { binary_data_size: 8 } }],
      outputs: [{ name: 'OUT_STRING' }],
    },
    [Buffer.from([1, 0, 0, 0, 0x61, 1, 0, 0])],
  ),
  binary(
    'bytes too few',
    {
      inputs: [{ name: 'IN_STRING', shape: [2], datatype: 'BYTES', parameters: { binary_data_size: 5 } }],
      outputs: [{ name: 'OUT_STRING' }],
    },
    [Buffer.from([1, 0, 0, 0, 0x61])],
  ),
  binary(
    'bytes too many',
    {
      inputs: [{ name: 'IN_STRING', shape: [1], datatype: 'BYTES', parameters: { binary_data_size: 10 } }],
      outputs: [{ name: 'OUT_STRING' }],
    },
    [Buffer.from([1, 0, 0, 0, 0x61, 1, 0, 0, 0, 0x62])],
  ),
  binary(
    'bytes length too large',
    {
      inputs: [{ name: 'IN_STRING', shape: [1], datatype: 'BYTES', parameters: { binary_data_size: 8 } }],
      outputs: [{ name: 'OUT_STRING' }],
    },
    [Buffer.from([255, 255, 255, 255, 0x61, 1, 0, 0])],
  ),
  infer('raw body', ones(1, 2, 3), 'fail', { 'Inference-Header-Content-Length': '0' }),
  infer('raw body, one input', ones(1, 2, 3), 'single', { 'Inference-Header-Content-Length': '0' }),
  infer('raw body, odd bytes', Buffer.alloc(5), 'single', { 'Inference-Header-Content-Length': '0' }),
  infer('raw body, text', 'hallo', 'text', { 'Inference-Header-Content-Length': '0' }),
  infer('raw body, several inputs', ones(1, 2, 3), 'addsub', { 'Inference-Header-Content-Length': '0' }),
  infer('raw body, batched', ones(1, 2), 'batched', { 'Inference-Header-Content-Length': '0' }),
];

/** Cases of `infer`: tensors, parameters, outputs, the binary extension. */
export const inferCases: readonly HttpCase[] = [...inferences, ...parameters, ...binaries];

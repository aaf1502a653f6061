import { call, finals, type GrpcCase, ident, infer, input, ints, repeat, stream } from './grpc-case.ts';

const one = (model: string, more: object = {}) => ({
  model_name: model,
  inputs: [input('IN', [1])],
  raw_input_contents: [ints(7)],
  ...more,
});
const floats = (...values: number[]) => Buffer.from(Float32Array.from(values).buffer);
const pair = { model_name: 'maybe', inputs: [input('IN', [1, 2])], raw_input_contents: [ints(1, 2)] };
const versions = ['1', '2', '3', '0', '-1', '01', '1.0', '1x', ' 1', '99999999999999999999'];

const metadata: GrpcCase[] = [
  ...['chain', 'echoes', 'maybe', 'broken', 'versions', 'labelled', 'scalar', 'matrix'].flatMap((name) => [
    call('ModelMetadata', { name }),
    call('ModelConfig', { name }),
  ]),
  ...versions.flatMap((version) => [
    call('ModelReady', { name: 'versions', version }),
    call('ModelMetadata', { name: 'versions', version }),
    call('ModelConfig', { name: 'versions', version }),
    infer(`version ${version}`, one('versions', { model_version: version })),
    stream(`version ${version}`, [one('versions', { model_version: version })]),
  ]),
  call('ModelStatistics', { name: 'versions', version: '2' }),
  call('ModelStatistics', { name: 'versions', version: 'x' }),
  call('ModelStatistics', { version: '1' }, 'ModelStatistics of a version only'),
];

const ensembles: GrpcCase[] = [
  infer('ensemble', one('chain')),
  infer('ensemble with an id', one('chain', { id: 'c' })),
  infer('ensemble with parameters', one('chain', { parameters: { a: { int64_param: 1 } } })),
  infer(
    'ensemble in a sequence',
    one('chain', { parameters: { sequence_id: { int64_param: 4 }, sequence_start: { bool_param: true } } }),
  ),
  infer(
    'ensemble in a named sequence',
    one('chain', {
      parameters: { sequence_id: { string_param: 'four' }, sequence_end: { bool_param: true } },
    }),
  ),
  infer('ensemble unknown output', one('chain', { outputs: [{ name: 'middle' }] })),
  infer('ensemble that fails', one('broken', { id: 'b' })),
  infer('ensemble decoupled', one('echoes')),
  infer('ensemble without the optional', pair),
  infer('ensemble batch too large', {
    ...pair,
    inputs: [input('IN', [9, 2])],
    raw_input_contents: [Buffer.alloc(72)],
  }),
  stream('ensemble', [one('chain', { id: 'c' })]),
  stream('ensemble with the final', [one('chain', { id: 'c', parameters: finals })]),
  stream('ensemble that fails', [one('broken', { id: 'b' }), one('chain', { id: 'c' })]),
  stream('ensemble that fails, strict', [one('broken', { id: 'b' })], { triton_grpc_error: 'true' }),
  stream('three ensembles', [
    one('chain', { id: '1' }),
    one('chain', { id: '2' }),
    one('chain', { id: '3' }),
  ]),
  stream('ensemble refused', [one('chain', { id: 'r', inputs: [input('NOPE', [1])] })]),
];

const shapes: GrpcCase[] = [
  infer('scalar rows', {
    model_name: 'scalar',
    inputs: [input('IN', [3, 1])],
    raw_input_contents: [ints(1, 2, 3)],
  }),
  infer('scalar rank', {
    model_name: 'scalar',
    inputs: [input('IN', [3])],
    raw_input_contents: [ints(1, 2, 3)],
  }),
  infer('matrix', {
    model_name: 'matrix',
    inputs: [input('IN', [2, 3], {}, 'FP32')],
    raw_input_contents: [floats(1, 2, 3, 4, 5, 6)],
  }),
  infer('matrix width', {
    model_name: 'matrix',
    inputs: [input('IN', [3, 2], {}, 'FP32')],
    raw_input_contents: [floats(1, 2, 3, 4, 5, 6)],
  }),
  infer('matrix zero rows', {
    model_name: 'matrix',
    inputs: [input('IN', [0, 3], {}, 'FP32')],
    raw_input_contents: [Buffer.alloc(0)],
  }),
  infer('labels', {
    model_name: 'labelled',
    inputs: [input('IN', [2, 3], {}, 'FP32')],
    outputs: [{ name: 'OUT', parameters: { classification: { int64_param: 2 } } }],
    raw_input_contents: [floats(1, 3, 2, 9, 8, 7)],
  }),
  infer('typed and batched', {
    model_name: 'batched',
    inputs: [
      input('IN', [1, 2], { contents: { int_contents: [1, 2] } }),
      input('TEXT', [1, 1], { contents: { bytes_contents: [Buffer.from('x')] } }, 'BYTES'),
    ],
  }),
  infer('typed empty', ident({ inputs: [input('IN_INT32', [0], { contents: {} })], raw_input_contents: [] })),
  infer(
    'typed too many',
    ident({
      inputs: [input('IN_INT32', [1], { contents: { int_contents: [1, 2] } })],
      raw_input_contents: [],
    }),
  ),
  infer(
    'typed beside shared',
    ident({
      inputs: [
        input('IN_INT32', [2], { contents: { int_contents: [1, 2] } }),
        input('IN_FP32', [1], {}, 'FP32'),
      ],
      raw_input_contents: [floats(1)],
    }),
  ),
  infer(
    'fp16 raw',
    ident({
      inputs: [input('IN_FP16', [2], {}, 'FP16')],
      outputs: [{ name: 'OUT_FP16' }],
      raw_input_contents: [Buffer.from([0, 0x3c, 0, 0x40])],
    }),
  ),
  infer(
    'bytes raw',
    ident({
      inputs: [input('IN_STRING', [2], {}, 'BYTES')],
      outputs: [{ name: 'OUT_STRING' }],
      raw_input_contents: [Buffer.from([1, 0, 0, 0, 0x61, 0, 0, 0, 0])],
    }),
  ),
  infer(
    'bytes left over',
    ident({
      inputs: [input('IN_STRING', [1], {}, 'BYTES')],
      outputs: [{ name: 'OUT_STRING' }],
      raw_input_contents: [Buffer.from([1, 0, 0, 0, 0x61, 0, 0, 0, 0])],
    }),
  ),
  infer(
    'bytes too few',
    ident({
      inputs: [input('IN_STRING', [3], {}, 'BYTES')],
      outputs: [{ name: 'OUT_STRING' }],
      raw_input_contents: [Buffer.from([1, 0, 0, 0, 0x61, 0, 0, 0, 0])],
    }),
  ),
  infer('raw too short', ident({ raw_input_contents: [ints(1)] })),
  infer('raw too long', ident({ raw_input_contents: [ints(1, 2, 3)] })),
  infer('input without a name', ident({ inputs: [input('', [2])] })),
  infer('output without a name', ident({ outputs: [{ name: '' }] })),
  infer('timeout', ident({ parameters: { timeout: { int64_param: 1000000 } } })),
  infer('timeout negative', ident({ parameters: { timeout: { int64_param: -1 } } })),
  infer('sequence negative', ident({ parameters: { sequence_id: { int64_param: -1 } } })),
  infer(
    'sequence flags',
    ident({ parameters: { sequence_start: { bool_param: true }, sequence_end: { bool_param: true } } }),
  ),
  infer(
    'input parameters',
    ident({ inputs: [input('IN_INT32', [2], { parameters: { a: { int64_param: 1 } } })] }),
  ),
  infer(
    'output parameters',
    ident({ outputs: [{ name: 'OUT_INT32', parameters: { a: { int64_param: 1 } } }] }),
  ),
  infer(
    'binary_data',
    ident({ outputs: [{ name: 'OUT_INT32', parameters: { binary_data: { bool_param: false } } }] }),
  ),
];

const streams: GrpcCase[] = [
  stream('one after another of two models', [ident({ id: 'a' }), one('chain', { id: 'b' })]),
  stream('unary parameters', [repeat([1], { id: 'p', parameters: { mine: { string_param: 'x' } } })]),
  stream('requested output', [repeat([1, 2], { id: 'o', outputs: [{ name: 'IDX' }] })]),
  stream('unknown output', [repeat([1], { id: 'o', outputs: [{ name: 'NOPE' }] })]),
  stream('no inputs', [repeat([], { id: 'n', inputs: [], raw_input_contents: [] })]),
  stream('empty request', [{}]),
  stream('of a version', [repeat([1], { id: 'v', model_version: '1' })]),
  stream('batch too large', [
    { ...pair, model_name: 'batched', inputs: [input('IN', [9, 2])], raw_input_contents: [Buffer.alloc(72)] },
  ]),
  stream('a refusal among answers', [
    ident({ id: '1' }),
    ident({ id: '2', inputs: [input('NOPE', [2])] }),
    ident({ id: '3' }),
  ]),
  stream(
    'strict refusal of a shape',
    [ident({ id: '2', raw_input_contents: [ints(1)] }), ident({ id: '3' })],
    { triton_grpc_error: 'true' },
  ),
  stream('strict false', [repeat([-1], { id: 'e' })], { triton_grpc_error: 'false' }),
  stream('finals of two', [repeat([1], { id: 'a', parameters: finals, model_version: '1' })]),
  stream('error with the final', [repeat([-1], { id: 'e', parameters: finals })]),
];

/** Versions, ensembles, shapes and streams: all after the first set, as they were recorded. */
export const composedGrpcCases: readonly GrpcCase[] = [...metadata, ...ensembles, ...shapes, ...streams];

import { composedGrpcCases } from './composed-grpc-cases.ts';
import {
  call,
  finals,
  type GrpcCase,
  ident,
  infer,
  input,
  ints,
  named,
  out,
  parameter,
  raw,
  repeat,
  shm,
  stream,
  x,
} from './grpc-case.ts';

const metadata: GrpcCase[] = [
  call('ServerLive'),
  call('ServerReady'),
  call('ServerMetadata'),
  call('ModelReady', { name: 'ident' }),
  call('ModelReady', { name: 'ident', version: '1' }),
  call('ModelReady', { name: 'ident', version: '5' }),
  call('ModelReady', { name: 'ident', version: 'x' }),
  call('ModelReady', { name: 'missing' }),
  call('ModelReady', {}),
  call('ModelMetadata', { name: 'batched' }),
  call('ModelMetadata', { name: 'missing' }),
  call('ModelMetadata', { name: 'ident', version: 'x' }),
  call('ModelMetadata', {}),
  call('ModelConfig', { name: 'repeat' }),
  call('ModelConfig', { name: 'batched' }),
  call('ModelConfig', { name: 'missing' }),
  call('ModelStatistics', { name: 'missing' }),
  call('RepositoryIndex'),
  call('RepositoryIndex', { ready: true }),
  call('RepositoryIndex', { repository_name: 'r' }),
  call('RepositoryModelLoad', { model_name: 'missing' }),
  call('RepositoryModelLoad', { model_name: 'ident', repository_name: 'r' }),
  call('RepositoryModelLoad', { model_name: 'ident', parameters: { nope: { string_param: 'x' } } }),
  call('RepositoryModelLoad', { model_name: 'ident', parameters: { config: { bool_param: true } } }),
  call('RepositoryModelLoad', { model_name: 'ident', parameters: { config: { string_param: '{' } } }),
  call('RepositoryModelUnload', { model_name: 'missing' }),
  call('RepositoryModelUnload', { model_name: 'ident', repository_name: 'r' }),
  call('RepositoryModelUnload', {
    model_name: 'missing',
    parameters: { unload_dependents: { string_param: 'x' } },
  }),
  call('SystemSharedMemoryStatus'),
  call('SystemSharedMemoryStatus', { name: 'nope' }),
  call('SystemSharedMemoryRegister', { name: 'r', key: '/nereid_no_such', byte_size: 8 }),
  call('SystemSharedMemoryRegister', {}),
  call('SystemSharedMemoryUnregister', { name: 'nope' }),
  call('SystemSharedMemoryUnregister'),
  call('CudaSharedMemoryStatus'),
  call('CudaSharedMemoryStatus', { name: 'nope' }),
  call('CudaSharedMemoryRegister', { name: 'r', raw_handle: Buffer.alloc(64), byte_size: 8 }),
  call('CudaSharedMemoryUnregister', { name: 'nope' }),
  call('TraceSetting'),
  call('TraceSetting', { model_name: 'missing' }),
  call('TraceSetting', { settings: { trace_rate: { value: ['9'] } } }),
  call('TraceSetting', { settings: { trace_rate: { value: ['x'] } } }),
  call('TraceSetting', { settings: { trace_rate: { value: ['1', '2'] } } }),
  call('TraceSetting', { settings: { trace_count: { value: ['-5'] } } }),
  call('TraceSetting', { settings: { trace_level: { value: ['TIMESTAMPS'] } } }),
  call('TraceSetting', { settings: { trace_level: { value: ['OFF', 'TIMESTAMPS'] } } }),
  call('TraceSetting', { settings: { trace_file: { value: ['x'] } } }),
  call('TraceSetting', { settings: { nope: { value: ['x'] } } }),
  call('TraceSetting', { settings: { trace_rate: {} } }),
  call('LogSettings'),
  call('LogSettings', { settings: { log_verbose_level: { uint32_param: 1 } } }),
  call('LogSettings', { settings: { log_verbose_level: { bool_param: true } } }),
  call('LogSettings', { settings: { log_info: { string_param: 'x' } } }),
  call('LogSettings', { settings: { log_format: { string_param: 'x' } } }),
  call('LogSettings', { settings: { log_file: { string_param: 'x' } } }),
  call('LogSettings', { settings: { nope: { string_param: 'x' } } }),
  call('LogSettings', { settings: { log_verbose_level: { uint32_param: 0 } } }),
];

const inferences: GrpcCase[] = [
  infer('plain', ident({ id: 'a' })),
  infer('version', ident({ model_version: '1' })),
  infer('unknown version', ident({ model_version: '3' })),
  infer('version no number', ident({ model_version: 'x' })),
  infer('unknown model', ident({ model_name: 'missing' })),
  infer('no model', ident({ model_name: '' })),
  infer('decoupled', repeat([1])),
  infer('failing', { model_name: 'fail', inputs: [input('IN', [1])], raw_input_contents: [ints(1)] }),
  infer('all outputs', ident({ outputs: [] })),
  infer('output twice', ident({ outputs: [...out, ...out] })),
  infer('unknown output', ident({ outputs: [{ name: 'NOPE' }] })),
  infer('unknown input', ident({ inputs: [input('NOPE', [2])] })),
  infer('input twice', ident({ inputs: [x, x], raw_input_contents: [...raw, ...raw] })),
  infer('datatype unknown', ident({ inputs: [input('IN_INT32', [2], {}, 'INT33')] })),
  infer('datatype other', ident({ inputs: [input('IN_INT32', [2], {}, 'FP32')] })),
  infer('datatype empty', ident({ inputs: [input('IN_INT32', [2], {}, '')] })),
  infer('shape negative', ident({ inputs: [input('IN_INT32', [-1])] })),
  infer('shape too long', ident({ inputs: [input('IN_INT32', [3])] })),
  infer('rank too high', ident({ inputs: [input('IN_INT32', [1, 2])] })),
  infer('shape empty', ident({ inputs: [input('IN_INT32', [])] })),
  infer('raw too few', ident({ raw_input_contents: [] })),
  infer('raw too many', ident({ raw_input_contents: [...raw, ...raw] })),
  infer('raw and typed', ident({ inputs: [{ ...x, contents: { int_contents: [1, 2] } }] })),
  infer('typed', ident({ inputs: [{ ...x, contents: { int_contents: [1, 2] } }], raw_input_contents: [] })),
  infer(
    'typed in the wrong field',
    ident({ inputs: [{ ...x, contents: { fp32_contents: [1, 2] } }], raw_input_contents: [] }),
  ),
  infer(
    'typed in two fields',
    ident({
      inputs: [{ ...x, contents: { fp32_contents: [1, 2], int_contents: [1, 2] } }],
      raw_input_contents: [],
    }),
  ),
  infer(
    'typed too few',
    ident({ inputs: [{ ...x, contents: { int_contents: [1] } }], raw_input_contents: [] }),
  ),
  infer(
    'typed narrow',
    ident({
      inputs: [input('IN_UINT8', [2], { contents: { uint_contents: [1, 300] } }, 'UINT8')],
      outputs: [{ name: 'OUT_UINT8' }],
      raw_input_contents: [],
    }),
  ),
  infer(
    'typed int8',
    ident({
      inputs: [input('IN_INT8', [2], { contents: { int_contents: [-1, 100] } }, 'INT8')],
      outputs: [{ name: 'OUT_INT8' }],
      raw_input_contents: [],
    }),
  ),
  infer(
    'typed bool',
    ident({
      inputs: [input('IN_BOOL', [2], { contents: { bool_contents: [true, false] } }, 'BOOL')],
      outputs: [{ name: 'OUT_BOOL' }],
      raw_input_contents: [],
    }),
  ),
  infer(
    'typed bytes',
    ident({
      inputs: [
        input(
          'IN_STRING',
          [2],
          { contents: { bytes_contents: [Buffer.from('ab'), Buffer.alloc(0)] } },
          'BYTES',
        ),
      ],
      outputs: [{ name: 'OUT_STRING' }],
      raw_input_contents: [],
    }),
  ),
  infer(
    'typed int64',
    ident({
      inputs: [input('IN_INT64', [2], { contents: { int64_contents: [1, -2] } }, 'INT64')],
      outputs: [{ name: 'OUT_INT64' }],
      raw_input_contents: [],
    }),
  ),
  infer(
    'typed uint64',
    ident({
      inputs: [input('IN_UINT64', [1], { contents: { uint64_contents: [7] } }, 'UINT64')],
      outputs: [{ name: 'OUT_UINT64' }],
      raw_input_contents: [],
    }),
  ),
  infer(
    'typed fp64',
    ident({
      inputs: [input('IN_FP64', [1], { contents: { fp64_contents: [0.5] } }, 'FP64')],
      outputs: [{ name: 'OUT_FP64' }],
      raw_input_contents: [],
    }),
  ),
  infer(
    'typed fp32',
    ident({
      inputs: [input('IN_FP32', [1], { contents: { fp32_contents: [0.5] } }, 'FP32')],
      outputs: [{ name: 'OUT_FP32' }],
      raw_input_contents: [],
    }),
  ),
  infer(
    'typed fp16',
    ident({
      inputs: [input('IN_FP16', [1], { contents: { fp32_contents: [0.5] } }, 'FP16')],
      outputs: [{ name: 'OUT_FP16' }],
      raw_input_contents: [],
    }),
  ),
  infer('zero elements', ident({ inputs: [input('IN_INT32', [0])], raw_input_contents: [Buffer.alloc(0)] })),
  infer('zero elements without raw', ident({ inputs: [input('IN_INT32', [0])], raw_input_contents: [] })),
  infer('no inputs', ident({ inputs: [], raw_input_contents: [] })),
  infer('missing one of two', {
    id: 'q',
    model_name: 'addsub',
    inputs: [input('INPUT0', [1, 16])],
    raw_input_contents: [Buffer.alloc(64)],
  }),
  infer('batch too large', {
    model_name: 'batched',
    inputs: [input('IN', [9, 2])],
    raw_input_contents: [Buffer.alloc(72)],
  }),
  infer(
    'bytes cut',
    ident({
      inputs: [input('IN_STRING', [1], {}, 'BYTES')],
      raw_input_contents: [Buffer.from([5, 0, 0, 0, 97])],
    }),
  ),
  infer(
    'classification',
    ident({
      inputs: [input('IN_FP32', [2], {}, 'FP32')],
      outputs: [{ name: 'OUT_FP32', parameters: { classification: { int64_param: 1 } } }],
      raw_input_contents: [Buffer.from(Float32Array.of(1, 3).buffer)],
    }),
  ),
  infer(
    'classification text',
    ident({ outputs: [{ name: 'OUT_INT32', parameters: { classification: { string_param: '1' } } }] }),
  ),
  infer(
    'classification negative',
    ident({ outputs: [{ name: 'OUT_INT32', parameters: { classification: { int64_param: -1 } } }] }),
  ),
  infer(
    'classification zero',
    ident({ outputs: [{ name: 'OUT_INT32', parameters: { classification: { int64_param: 0 } } }] }),
  ),
];

const parameters: GrpcCase[] = [
  infer('parameter bool', parameter({ bool_param: true })),
  infer('parameter int64', parameter({ int64_param: -4 })),
  infer('parameter string', parameter({ string_param: 'x' })),
  infer('parameter double', parameter({ double_param: 0.5 })),
  infer('parameter uint64', parameter({ uint64_param: 5 })),
  infer('parameter empty', parameter({})),
  infer('parameter reserved', named('triton_x', { int64_param: 1 })),
  infer('parameter headers', named('headers', { string_param: 'x' })),
  infer('empty final on unary', named('triton_enable_empty_final_response', { bool_param: true })),
  infer('empty final not bool', named('triton_enable_empty_final_response', { string_param: 'x' })),
  infer('sequence_id', named('sequence_id', { int64_param: 3 })),
  infer('sequence_id text', named('sequence_id', { string_param: 'three' })),
  infer('sequence_id bool', named('sequence_id', { bool_param: true })),
  infer('sequence_start text', named('sequence_start', { string_param: 'x' })),
  infer('sequence_end text', named('sequence_end', { string_param: 'x' })),
  infer('priority', named('priority', { int64_param: 1 })),
  infer('priority uint64', named('priority', { uint64_param: 1 })),
  infer('priority negative', named('priority', { int64_param: -1 })),
  infer('priority text', named('priority', { string_param: 'x' })),
  infer('timeout text', named('timeout', { string_param: 'x' })),
  infer('binary_data_output', named('binary_data_output', { bool_param: true })),
  infer(
    'shm input unknown',
    shm({ shared_memory_region: { string_param: 'nope' }, shared_memory_byte_size: { int64_param: 8 } }),
  ),
  infer('shm input without a size', shm({ shared_memory_region: { string_param: 'nope' } })),
  infer('shm size without a region', shm({ shared_memory_byte_size: { int64_param: 8 } })),
  infer('shm offset without a region', shm({ shared_memory_offset: { int64_param: 8 } })),
  infer('shm region type', shm({ shared_memory_region: { int64_param: 8 } })),
  infer(
    'shm size type',
    shm({ shared_memory_region: { string_param: 'r' }, shared_memory_byte_size: { string_param: '8' } }),
  ),
  infer(
    'shm offset type',
    shm({
      shared_memory_region: { string_param: 'r' },
      shared_memory_byte_size: { int64_param: 8 },
      shared_memory_offset: { string_param: '8' },
    }),
  ),
  infer(
    'shm output unknown',
    ident({
      outputs: [
        {
          name: 'OUT_INT32',
          parameters: {
            shared_memory_region: { string_param: 'nope' },
            shared_memory_byte_size: { int64_param: 8 },
          },
        },
      ],
    }),
  ),
  infer(
    'shm output and classification',
    ident({
      outputs: [
        {
          name: 'OUT_INT32',
          parameters: {
            shared_memory_region: { string_param: 'nope' },
            shared_memory_byte_size: { int64_param: 8 },
            classification: { int64_param: 1 },
          },
        },
      ],
    }),
  ),
  infer(
    'shm input with contents',
    ident({
      inputs: [
        {
          ...x,
          contents: { int_contents: [1, 2] },
          parameters: {
            shared_memory_region: { string_param: 'nope' },
            shared_memory_byte_size: { int64_param: 8 },
          },
        },
      ],
      raw_input_contents: [],
    }),
  ),
];

const streams: GrpcCase[] = [
  stream('three', [repeat([1, 2, 3])]),
  stream('three with the final', [repeat([1, 2, 3], { id: 'r1', parameters: finals })]),
  stream('none', [repeat([])]),
  stream('none with the final', [repeat([], { id: 'r2', parameters: finals, model_version: '1' })]),
  stream('error among', [repeat([1, -1, 2], { id: 'e' })]),
  stream('error first, then another request', [repeat([-1], { id: 'e' }), repeat([5], { id: 'f' })]),
  stream('error among, strict', [repeat([1, -1, 2], { id: 'e' })], { triton_grpc_error: 'true' }),
  stream('refused', [repeat([1], { id: 'n', inputs: [input('NOPE', [1])] })]),
  stream('refused, strict', [repeat([1], { id: 'n', inputs: [input('NOPE', [1])] })], {
    triton_grpc_error: 'true',
  }),
  stream('unknown model', [repeat([1], { id: 'u', model_name: 'missing' })]),
  stream('unknown model, strict', [repeat([1], { id: 'u', model_name: 'missing' })], {
    triton_grpc_error: 'true',
  }),
  stream('not decoupled', [ident({ id: 'i' })]),
  stream('not decoupled with the final', [ident({ id: 'i', parameters: finals })]),
  stream('three not decoupled', [ident({ id: '1' }), ident({ id: '2' }), ident({ id: '3' })]),
  stream('failing', [
    { id: 'x', model_name: 'fail', inputs: [input('IN', [1])], raw_input_contents: [ints(1)] },
    ident({ id: '2' }),
  ]),
  stream(
    'failing, strict',
    [{ id: 'x', model_name: 'fail', inputs: [input('IN', [1])], raw_input_contents: [ints(1)] }],
    { triton_grpc_error: 'true' },
  ),
  stream('reserved parameter', [named('triton_x', { int64_param: 1 })]),
  stream('empty final not bool', [named('triton_enable_empty_final_response', { string_param: 'x' })]),
  stream('raw too few', [ident({ id: 'w', raw_input_contents: [] })]),
  stream('no request', []),
];

/** All gRPC cases, in the order in which they were recorded. */
export const grpcCases: readonly GrpcCase[] = [
  ...metadata,
  ...inferences,
  ...parameters,
  ...streams,
  ...composedGrpcCases,
];

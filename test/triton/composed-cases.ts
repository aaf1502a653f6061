import { deflateSync, gzipSync } from 'node:zlib';
import { binary, generate, get, type HttpCase, infer, int32, ones, post, x } from './http-case.ts';

const inOf = (...data: number[]) => ({ inputs: [int32('IN', [data.length], data)] });
const text = (value: string) => ({ name: 'TEXT', shape: [1, 1], datatype: 'BYTES', data: [value] });
const pair = int32('IN', [1, 2], [1, 2]);
const floats = (shape: number[], data: number[], name = 'IN') => ({ name, shape, datatype: 'FP32', data });

const ensembles: HttpCase[] = [
  ...['chain', 'echoes', 'maybe', 'broken', 'versions', 'labelled', 'scalar', 'matrix'].flatMap((name) => [
    get(`/v2/models/${name}`),
    get(`/v2/models/${name}/config`),
    get(`/v2/models/${name}/ready`),
  ]),
  infer('plain', inOf(1, 2, 3), 'chain'),
  infer('id', { id: 'c', ...inOf(1) }, 'chain'),
  infer('version', inOf(1), 'chain/versions/1'),
  infer('unknown version', inOf(1), 'chain/versions/2'),
  infer('parameters', { ...inOf(1), parameters: { a: 1, b: 'x', c: 0.5, d: true } }, 'chain'),
  infer('sequence', { ...inOf(1), parameters: { sequence_id: 5, sequence_start: true } }, 'chain'),
  infer('sequence text', { ...inOf(1), parameters: { sequence_id: 'five', sequence_end: true } }, 'chain'),
  infer('requested', { ...inOf(1), outputs: [{ name: 'OUT' }] }, 'chain'),
  infer('unknown output', { ...inOf(1), outputs: [{ name: 'middle' }] }, 'chain'),
  infer('inner input', { inputs: [int32('middle', [1], [1])] }, 'chain'),
  infer('no inputs', { inputs: [] }, 'chain'),
  infer('zero elements', inOf(), 'chain'),
  infer('datatype', { inputs: [floats([1], [1])] }, 'chain'),
  infer('rank', { inputs: [int32('IN', [1, 1], [1])] }, 'chain'),
  infer('priority and timeout', { ...inOf(1), parameters: { priority: 1, timeout: 0 } }, 'chain'),
  infer('binary out', { ...inOf(1, 2), parameters: { binary_data_output: true } }, 'chain'),
  infer('raw body', ones(1, 2), 'chain', { 'Inference-Header-Content-Length': '0' }),
  infer(
    'classification',
    { ...inOf(1, 7), outputs: [{ name: 'OUT', parameters: { classification: 1 } }] },
    'chain',
  ),
  generate('plain', { IN: [1, 2] }, 'chain'),
  generate('id', { id: 'g', IN: 1 }, 'chain'),
  generate('plain', { IN: [1, 2] }, 'chain', true),
  generate('unknown key', { IN: 1, other: 2 }, 'chain'),
  generate('missing', { other: 2 }, 'chain'),
  infer('both', { inputs: [pair, text('a')] }, 'maybe'),
  infer('without the optional', { inputs: [pair] }, 'maybe'),
  infer('asked for the optional', { inputs: [pair, text('a')], outputs: [{ name: 'TEXT_OUT' }] }, 'maybe'),
  infer('batch of two', { inputs: [int32('IN', [2, 2], [1, 2, 3, 4])] }, 'maybe'),
  infer('batch too large', { inputs: [int32('IN', [9, 2], new Array(18).fill(0))] }, 'maybe'),
  infer('batch rank', { inputs: [int32('IN', [2], [1, 2])] }, 'maybe'),
  infer('one unexpected', { inputs: [pair, int32('NOPE', [1, 1], [1])] }, 'maybe'),
  generate('both', { IN: [1, 2], TEXT: 'a' }, 'maybe'),
  infer('plain', inOf(1), 'broken'),
  infer('id', { id: 'b', ...inOf(1) }, 'broken'),
  generate('plain', { IN: 1 }, 'broken'),
  generate('plain', { IN: 1 }, 'broken', true),
  infer('decoupled', inOf(1), 'echoes'),
  generate('one', { IN: [7] }, 'echoes'),
  generate('two', { IN: [7, 8] }, 'echoes'),
  generate('three', { IN: [7, 8, 9] }, 'echoes', true),
  generate('id', { id: 'e', IN: [7] }, 'echoes', true),
  generate('refused', { NOPE: [7] }, 'echoes', true),
];

const shapes: HttpCase[] = [
  ...['1', '2', '3', '4', '0', '-1', '01', '1.0', '99999999999999999999', ' '].flatMap((version) => [
    get(`/v2/models/versions/versions/${encodeURIComponent(version)}`),
    get(`/v2/models/versions/versions/${encodeURIComponent(version)}/ready`),
    infer('one', inOf(1), `versions/versions/${encodeURIComponent(version)}`),
  ]),
  infer('latest', inOf(1), 'versions'),
  get('/v2/models/versions/versions/3/config'),
  get('/v2/models/versions/versions/2/config'),
  get('/v2/models/versions/versions/2/stats'),
  infer(
    'classes',
    { inputs: [floats([1, 3], [1, 3, 2])], outputs: [{ name: 'OUT', parameters: { classification: 3 } }] },
    'labelled',
  ),
  infer(
    'classes of two',
    {
      inputs: [floats([2, 3], [1, 3, 2, 9, 8, 7])],
      outputs: [{ name: 'OUT', parameters: { classification: 2 } }],
    },
    'labelled',
  ),
  infer(
    'equal classes',
    { inputs: [floats([1, 3], [2, 2, 2])], outputs: [{ name: 'OUT', parameters: { classification: 3 } }] },
    'labelled',
  ),
  infer(
    'negative classes',
    {
      inputs: [floats([1, 3], [-2.5, 1e10, 1e-10])],
      outputs: [{ name: 'OUT', parameters: { classification: 3 } }],
    },
    'labelled',
  ),
  infer('rows', { inputs: [int32('IN', [3, 1], [1, 2, 3])] }, 'scalar'),
  infer('rank', { inputs: [int32('IN', [3], [1, 2, 3])] }, 'scalar'),
  infer('width', { inputs: [int32('IN', [1, 2], [1, 2])] }, 'scalar'),
  infer('batch too large', { inputs: [int32('IN', [5, 1], [1, 2, 3, 4, 5])] }, 'scalar'),
  generate('one', { IN: 4 }, 'scalar'),
  generate('a list', { IN: [4] }, 'scalar'),
  generate('two', { IN: [4, 5] }, 'scalar'),
  infer('plain', { inputs: [floats([2, 3], [1, 2, 3, 4, 5, 6])] }, 'matrix'),
  infer(
    'nested',
    {
      inputs: [
        floats([2, 3], [
          [1, 2, 3],
          [4, 5, 6],
        ] as never),
      ],
    },
    'matrix',
  ),
  infer(
    'nested wrongly',
    {
      inputs: [
        floats([2, 3], [
          [1, 2, 3, 4],
          [5, 6],
        ] as never),
      ],
    },
    'matrix',
  ),
  infer('width', { inputs: [floats([2, 2], [1, 2, 3, 4])] }, 'matrix'),
  infer('zero rows', { inputs: [floats([0, 3], [])] }, 'matrix'),
  infer(
    'fixed',
    {
      inputs: [
        floats([1, 3], [1, 2, 3]),
        { name: 'FIXED', shape: [2, 2], datatype: 'INT64', data: [1, 2, 3, 4] },
      ],
    },
    'matrix',
  ),
  infer(
    'fixed wrong',
    {
      inputs: [
        floats([1, 3], [1, 2, 3]),
        { name: 'FIXED', shape: [4], datatype: 'INT64', data: [1, 2, 3, 4] },
      ],
    },
    'matrix',
  ),
  infer(
    'deep',
    { inputs: [floats([1, 3], [1, 2, 3]), { name: 'DEEP', shape: [2, 1], datatype: 'UINT8', data: [1, 2] }] },
    'matrix',
  ),
  generate('three', { IN: [1, 2, 3] }, 'matrix'),
  generate('six', { IN: [1, 2, 3, 4, 5, 6] }, 'matrix'),
  generate('five', { IN: [1, 2, 3, 4, 5] }, 'matrix'),
  generate(
    'nested',
    {
      IN: [
        [1, 2, 3],
        [4, 5, 6],
      ],
    },
    'matrix',
  ),
  generate('fixed', { IN: [1, 2, 3], FIXED: [1, 2, 3, 4] }, 'matrix'),
  generate('fixed wrong', { IN: [1, 2, 3], FIXED: [1, 2] }, 'matrix'),
  generate('deep', { IN: [1, 2, 3], DEEP: [1, 2] }, 'matrix'),
  generate('deep scalar', { IN: [1, 2, 3], DEEP: 1 }, 'matrix'),
];

const written = (name: string, type: string, data: string, count = 1): HttpCase =>
  infer(
    `written: ${name}`,
    `{"inputs":[{"name":"IN_${type === 'BYTES' ? 'STRING' : type}","shape":[${count}],"datatype":"${type}","data":${data}}],"outputs":[{"name":"OUT_${type === 'BYTES' ? 'STRING' : type}"}]}`,
  );

const numbers: HttpCase[] = [
  written('exponent for an integer', 'INT32', '[1e2]'),
  written('minus zero', 'INT32', '[-0]'),
  written('minus zero float', 'FP32', '[-0.0]'),
  written('over float', 'FP32', '[1e39]'),
  written('over double', 'FP64', '[1e400]'),
  written('tiny double', 'FP64', '[5e-324]'),
  written('many digits', 'FP64', '[0.1234567890123456789]'),
  written('large float', 'FP32', '[16777217]'),
  written('third', 'FP32', '[0.33333334]'),
  written('double third', 'FP64', '[0.3333333333333333]'),
  written('float exponents', 'FP32', '[1e10,1e16,1e17,1e21,1e-5,1e-7,123456789]', 7),
  written('double exponents', 'FP64', '[1e10,1e16,1e17,1e21,1e22,1e-5,1e-7,123456789012345678]', 8),
  written('int over', 'INT32', '[2147483648]'),
  written('int under', 'INT32', '[-2147483649]'),
  written('int64 over', 'INT64', '[9223372036854775808]'),
  written('uint64 over', 'UINT64', '[18446744073709551616]'),
  written('int8 over', 'INT8', '[128]'),
  written('bool text', 'BOOL', '["true"]'),
  written('bool two', 'BOOL', '[2]'),
  written('bool float', 'BOOL', '[1.0]'),
  written('escapes', 'BYTES', '["\\u0041\\u00e9\\ud83d\\ude00\\t\\/"]'),
  written('control character', 'BYTES', '["\\u0001\\u007f"]'),
  written('lone surrogate', 'BYTES', '["\\ud83d"]'),
  written('bytes true', 'BYTES', '[true]'),
  written('bytes null', 'BYTES', '[null]'),
  written('bytes empty list', 'BYTES', '[]', 0),
  written('nested deep', 'INT32', '[[[[1]]]]'),
  written('object in a list', 'INT32', '[{}]'),
  written('list in a text', 'BYTES', '[["a"]]'),
  written('too few', 'INT32', '[1]', 2),
  written('too many', 'INT32', '[1,2,3]', 2),
  written('too many texts', 'BYTES', '["a","b"]'),
  written('too few texts', 'BYTES', '["a"]', 2),
  infer(
    'written: name twice',
    '{"inputs":[{"name":"IN_INT32","name":"IN_FP32","shape":[1],"datatype":"INT32","data":[1]}]}',
  ),
  infer(
    'written: inputs twice',
    '{"inputs":[],"inputs":[{"name":"IN_INT32","shape":[1],"datatype":"INT32","data":[1]}]}',
  ),
  infer(
    'written: white space',
    ' \n\t{ "inputs" : [ { "name" : "IN_INT32" , "shape" : [ 1 ] , "datatype" : "INT32" , "data" : [ 1 ] } ] , "outputs" : [ { "name" : "OUT_INT32" } ] } \n',
  ),
  infer('written: byte order mark', '\ufeff{"inputs":[]}'),
  infer('written: comment', '{/* */"inputs":[]}'),
  infer('written: single quotes', "{'inputs':[]}"),
  infer('written: a number', '5'),
  infer('written: a text', '"x"'),
  infer('written: null', 'null'),
  infer('written: nul byte', '{"inputs":[]}\0'),
  infer('written: invalid UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])),
  infer('written: id null', { id: null, inputs: [x] }),
  infer('written: id object', { id: {}, inputs: [x] }),
  infer('written: id empty', { id: '', inputs: [x], outputs: [{ name: 'OUT_INT32' }] }),
  infer('written: unknown members', {
    inputs: [{ ...x, more: 1 }],
    outputs: [{ name: 'OUT_INT32', more: 2 }],
    more: 3,
  }),
  infer('written: output text', { inputs: [x], outputs: ['OUT_INT32'] }),
  infer('written: output name number', { inputs: [x], outputs: [{ name: 5 }] }),
  infer('written: outputs null', { inputs: [x], outputs: null }),
  infer('written: inputs null', { inputs: null }),
  infer('written: parameters null', { inputs: [x], parameters: null, outputs: [{ name: 'OUT_INT32' }] }),
  infer('written: parameters array', { inputs: [x], parameters: [], outputs: [{ name: 'OUT_INT32' }] }),
  infer('written: input parameters null', {
    inputs: [{ ...x, parameters: null }],
    outputs: [{ name: 'OUT_INT32' }],
  }),
  infer('written: timeout', {
    inputs: [x],
    parameters: { timeout: 1000000 },
    outputs: [{ name: 'OUT_INT32' }],
  }),
  infer('written: timeout float', {
    inputs: [x],
    parameters: { timeout: 1.5 },
    outputs: [{ name: 'OUT_INT32' }],
  }),
  infer('written: priority', { inputs: [x], parameters: { priority: 1 }, outputs: [{ name: 'OUT_INT32' }] }),
  infer('written: sequence_id negative', {
    inputs: [x],
    parameters: { sequence_id: -1 },
    outputs: [{ name: 'OUT_INT32' }],
  }),
  infer('written: sequence_id null', {
    inputs: [x],
    parameters: { sequence_id: null },
    outputs: [{ name: 'OUT_INT32' }],
  }),
  infer('written: sequence_id empty', {
    inputs: [x],
    parameters: { sequence_id: '' },
    outputs: [{ name: 'OUT_INT32' }],
  }),
  infer('written: flags', {
    inputs: [x],
    parameters: { sequence_start: true, sequence_end: true },
    outputs: [{ name: 'OUT_INT32' }],
  }),
];

const plain = JSON.stringify({ inputs: [x], outputs: [{ name: 'OUT_INT32' }] });
const transfers: HttpCase[] = [
  infer('gzip', gzipSync(plain), 'ident', { 'Content-Encoding': 'gzip' }),
  infer('deflate', deflateSync(plain), 'ident', { 'Content-Encoding': 'deflate' }),
  infer('gzip no gzip', plain, 'ident', { 'Content-Encoding': 'gzip' }),
  infer('gzip cut', gzipSync(plain).subarray(0, 20), 'ident', { 'Content-Encoding': 'gzip' }),
  infer('deflate no deflate', plain, 'ident', { 'Content-Encoding': 'deflate' }),
  infer('encoding unknown', plain, 'ident', { 'Content-Encoding': 'br' }),
  infer('encoding identity', plain, 'ident', { 'Content-Encoding': 'identity' }),
  infer('encoding empty', plain, 'ident', { 'Content-Encoding': '' }),
  infer('encoding list', gzipSync(plain), 'ident', { 'Content-Encoding': 'gzip, deflate' }),
  infer('accept gzip', plain, 'ident', { 'Accept-Encoding': 'gzip' }),
  infer('accept deflate', plain, 'ident', { 'Accept-Encoding': 'deflate' }),
  infer('accept both', plain, 'ident', { 'Accept-Encoding': 'deflate, gzip' }),
  infer('accept by quality', plain, 'ident', { 'Accept-Encoding': 'gzip;q=0.5, deflate;q=0.8' }),
  infer('accept none', plain, 'ident', { 'Accept-Encoding': 'gzip;q=0' }),
  infer('accept anything', plain, 'ident', { 'Accept-Encoding': '*' }),
  infer('accept brotli', plain, 'ident', { 'Accept-Encoding': 'br' }),
  infer('accept gzip of an error', '{', 'ident', { 'Accept-Encoding': 'gzip' }),
  infer('content type text', plain, 'ident', { 'Content-Type': 'text/plain' }),
  infer('content type form', plain, 'ident', { 'Content-Type': 'application/x-www-form-urlencoded' }),
  infer('content type nonsense', plain, 'ident', { 'Content-Type': 'x' }),
  infer('request id header', plain, 'ident', { 'triton-request-id': 'h' }),
  infer('expect nothing', plain, 'ident', { Accept: 'text/html' }),
  post('/v2/models/batched/generate', gzipSync('{"IN":[1,2]}'), 'generate gzip', {
    'Content-Encoding': 'gzip',
  }),
  post('/v2/models/batched/generate', '{"IN":[1,2]}', 'generate accept gzip', { 'Accept-Encoding': 'gzip' }),
  post('/v2/models/batched/generate', '{"IN":[1,2]}', 'generate accept events', {
    Accept: 'text/event-stream',
  }),
  post('/v2/models/batched/generate_stream', '{"IN":[1,2]}', 'generate_stream accept json', {
    Accept: 'application/json',
  }),
  post('/v2/models/batched/versions/1/generate', { IN: [1, 2] }, 'generate of a version'),
  post('/v2/models/batched/versions/3/generate', { IN: [1, 2] }, 'generate of an unknown version'),
  post('/v2/models/repeat/versions/1/generate_stream', { IN: [1] }, 'generate_stream of a version'),
  binary(
    'gzip',
    { inputs: [{ name: 'IN_INT32', shape: [2], datatype: 'INT32', parameters: { binary_data_size: 8 } }] },
    [],
  ),
];

const paths: HttpCase[] = [
  ...[
    '/',
    '/v1',
    '/v2/health',
    '/v2/health/live/',
    '/v2/health/ready?x=1',
    '//v2',
    '/v2//health/live',
    '/v2/models/',
    '/v2/models/ident/',
    '/v2/models/ident/ready/',
    '/v2/models/ident/versions',
    '/v2/models/ident/versions/',
    '/v2/models/ident/versions//ready',
    '/v2/models/ident/stats/x',
    '/v2/models/ident/versions/1/trace/setting',
    '/v2/models/%69dent/ready',
    '/v2/models/a%2Fb/ready',
    '/v2/models/%zz/ready',
    '/v2/models/stats/ready',
    '/v2/repository',
    '/v2/repository/index/',
    '/v2/repository/models/ident',
    '/v2/trace',
    '/v2/trace/setting/',
    '/v2/logging/',
    '/v2/systemsharedmemory',
    '/v2/systemsharedmemory/region',
    '/v2/systemsharedmemory/region/a/b/status',
    '/v2/cudasharedmemory/region//status',
    '/V2/health/live',
    '/metrics',
    '/v2/health/live#x',
  ].map((path) => get(path)),
  ...['HEAD', 'OPTIONS', 'PATCH', 'DELETE', 'PUT', 'POST'].flatMap((method) =>
    ['/v2/health/live', '/v2/models/ident/infer', '/v2/repository/index', '/v2/logging', '/nothing']
      .filter((path) => method !== 'POST' || path === '/v2/health/live' || path === '/nothing')
      .map((path): HttpCase => ({ name: `${method} ${path}`, method, path })),
  ),
];

const config = (more: object) => ({
  parameters: { config: JSON.stringify({ name: 'single', max_batch_size: 0, ...more }) },
});
const tensors = {
  input: [{ name: 'IN', data_type: 'TYPE_INT32', dims: [-1] }],
  output: [{ name: 'OUT', data_type: 'TYPE_INT32', dims: [-1] }],
};
const single = (body: unknown, name: string) =>
  post('/v2/repository/models/single/load', body, `load single: ${name}`);
const loads: HttpCase[] = [
  single(config({ ...tensors, backend: 'nope' }), 'unknown backend'),
  single(config({ ...tensors, name: 'other' }), 'another name'),
  single(config({ nope: 1 }), 'unknown field'),
  single({ parameters: { config: '[]' } }, 'config a list'),
  single({ parameters: { config: '' } }, 'config empty'),
  single({ parameters: {} }, 'no parameters'),
  single('', 'no body'),
  single({ parameters: { 'file:1/model.x': 5 } }, 'file a number'),
  get('/v2/models/single/ready', 'ready after bad loads'),
  infer('after bad loads', inOf(1), 'single'),
  post('/v2/repository/models/versions/unload', {}, 'unload several versions'),
  get('/v2/models/versions/ready', 'ready after unloading several'),
  get('/v2/models/versions/versions/3', 'a version after unloading several'),
  get('/v2/models/versions/stats', 'statistics after unloading several'),
  post('/v2/repository/models/versions/load', {}, 'load several versions'),
  get('/v2/models/versions', 'metadata after loading several'),
  post(
    '/v2/repository/models/chain/unload',
    { parameters: { unload_dependents: true } },
    'unload with dependents',
  ),
  get('/v2/models/single/ready', 'a dependent after unloading'),
  infer('after unloading', inOf(1), 'chain'),
  post('/v2/repository/models/chain/load', {}, 'load with dependents'),
  infer('after loading', inOf(1), 'chain'),
  get('/v2/models/single/ready', 'a dependent after loading'),
];

/** Ensembles, versions, shapes, numbers, compression, paths: all after the first set, as they were recorded. */
export const composedCases: readonly HttpCase[] = [
  ...ensembles,
  ...shapes,
  ...numbers,
  ...transfers,
  ...paths,
  ...loads,
];

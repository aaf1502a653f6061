import { get, type HttpCase, post } from './http-case.ts';

/**
 * Load requests that bring a configuration for the model `single`, and what is shown of it then. `TWIN` stands for the backend: `python` on
 * the genuine server, `identity` here.
 */
const IN = { name: 'IN', data_type: 'TYPE_INT32', dims: [-1] };
const OUT = { name: 'OUT', data_type: 'TYPE_INT32', dims: [-1] };
const whole = {
  name: 'single',
  backend: 'TWIN',
  max_batch_size: 0,
  input: [IN],
  output: [OUT],
  instance_group: [{ kind: 'KIND_CPU' }],
};
const load = (name: string, more: object): HttpCase =>
  post(
    '/v2/repository/models/single/load',
    { parameters: { config: JSON.stringify({ ...whole, ...more }) } },
    `configuration: ${name}`,
  );
const batching = (dynamic_batching: object) => ({ max_batch_size: 4, dynamic_batching });
const group = (more: object) => ({ instance_group: [{ kind: 'KIND_CPU', ...more }] });
const input = (more: object) => ({ input: [{ ...IN, ...more }] });
const output = (more: object) => ({ output: [{ ...OUT, ...more }] });

/** What is taken, and how it is shown. */
const taken: Readonly<Record<string, object>> = {
  plain: {},
  batched: { max_batch_size: 4 },
  'batch size in a text': { max_batch_size: '4' },
  'dynamic batching': batching({}),
  'dynamic batching without batches': { dynamic_batching: {} },
  'preferred sizes': batching({ preferred_batch_size: [2, 4] }),
  delay: batching({ max_queue_delay_microseconds: 100 }),
  'delay in a text': batching({ max_queue_delay_microseconds: '100' }),
  'preserved order': batching({ preserve_ordering: true }),
  priorities: batching({ priority_levels: 3, default_priority_level: 2 }),
  'queue policy': batching({
    default_queue_policy: {
      timeout_action: 'DELAY',
      default_timeout_microseconds: 10,
      allow_timeout_override: true,
      max_queue_size: 3,
    },
  }),
  'policies of priorities': batching({
    priority_levels: 2,
    default_priority_level: 1,
    priority_queue_policy: { '2': { max_queue_size: 1 } },
  }),
  'two instances': group({ count: 2 }),
  'no instances': group({ count: 0 }),
  'negative instances': group({ count: -1 }),
  'a named group': group({ name: 'mine' }),
  'two groups': { instance_group: [{ kind: 'KIND_CPU' }, { kind: 'KIND_CPU', count: 2 }] },
  'all versions': { version_policy: { all: {} } },
  'two versions': { version_policy: { latest: { num_versions: 2 } } },
  'a version': { version_policy: { specific: { versions: [1] } } },
  'a version in a text': { version_policy: { specific: { versions: ['1'] } } },
  'an empty policy': { version_policy: {} },
  parameters: { parameters: { a: { string_value: 'b' }, c: {} } },
  'warm-up': {
    model_warmup: [{ name: 'w', inputs: { IN: { data_type: 'TYPE_INT32', dims: [2], zero_data: true } } }],
  },
  'an optional input': input({ optional: true }),
  'a numbered datatype': input({ data_type: 8 }),
  decoupled: { model_transaction_policy: { decoupled: true } },
  'decoupled in a text': { model_transaction_policy: { decoupled: 'true' } },
  'cache off': { response_cache: { enable: false } },
  'metric tags': { metric_tags: { a: 'b' } },
  'camel case': { input: [{ name: 'IN', dataType: 'TYPE_INT32', dims: [-1] }] },
  'dims in texts': input({ dims: ['-1'] }),
  'nulls for defaults': { dynamic_batching: null, parameters: null },
};

/** What is refused. */
const refused: Readonly<Record<string, object>> = {
  'no dims': input({ dims: [] }),
  'dims of nothing': input({ dims: [0] }),
  'negative dims': input({ dims: [-2] }),
  'no dims of an output': output({ dims: [] }),
  'unknown datatype': input({ data_type: 'TYPE_NOPE' }),
  'no datatype': { input: [{ name: 'IN', dims: [-1] }] },
  'no datatype of an output': { output: [{ name: 'OUT', dims: [-1] }] },
  'no name': { input: [{ data_type: 'TYPE_INT32', dims: [-1] }] },
  'no name of an output': { output: [{ data_type: 'TYPE_INT32', dims: [-1] }] },
  'negative batch size': { max_batch_size: -1 },
  'fractional batch size': { max_batch_size: 1.5 },
  'huge batch size': { max_batch_size: 99_999_999_999 },
  'preferred size too large': batching({ preferred_batch_size: [8] }),
  'preferred size of nothing': batching({ preferred_batch_size: [0] }),
  'negative delay': batching({ max_queue_delay_microseconds: -1 }),
  'priorities without a default': batching({ priority_levels: 3 }),
  'priorities below the default': batching({ priority_levels: 3, default_priority_level: 4 }),
  'a policy beyond the priorities': batching({
    priority_levels: 2,
    default_priority_level: 1,
    priority_queue_policy: { '5': { max_queue_size: 1 } },
  }),
  'unknown kind of instances': group({ kind: 'KIND_X' }),
  'no latest version': { version_policy: { latest: { num_versions: 0 } } },
  'latest without a number': { version_policy: { latest: {} } },
  'a version that is not there': { version_policy: { specific: { versions: [7] } } },
  'no specific version': { version_policy: { specific: {} } },
  'two policies': { version_policy: { all: {}, latest: { num_versions: 1 } } },
  'an empty shape without batches': input({ dims: [1], reshape: { shape: [] } }),
  'a shape of another size': input({ dims: [2], reshape: { shape: [3] } }),
  'a shape of nothing': input({ dims: [2], reshape: { shape: [0] } }),
  'a shape that varies more': input({ dims: [-1], reshape: { shape: [-1, -1] } }),
  'an output shape of another size': output({ dims: [2], reshape: { shape: [3] } }),
  'a shape tensor': input({ is_shape_tensor: true }),
  'an image of one dimension': input({ format: 'FORMAT_NHWC' }),
  'unknown format': input({ format: 'X' }),
  'a list that is none': { input: IN },
  'dims that are no list': input({ dims: -1 }),
  'fractional dims': input({ dims: [1.5] }),
  'a name that is a number': { name: 5 },
  'parameters that are texts': { parameters: { a: 'b' } },
  'unknown member': input({ nope: 1 }),
};

const step = (model_name: string, input_map: object, output_map: object, model_version = -1) => ({
  model_name,
  model_version,
  input_map,
  output_map,
});
const chain = (name: string, steps: object[], more: object = {}): HttpCase =>
  post(
    '/v2/repository/models/chain/load',
    {
      parameters: {
        config: JSON.stringify({
          name: 'chain',
          platform: 'ensemble',
          max_batch_size: 0,
          input: [IN],
          output: [OUT],
          ensemble_scheduling: { step: steps },
          ...more,
        }),
      },
    },
    `ensemble: ${name}`,
  );
const through = step('single', { IN: 'IN' }, { OUT: 'OUT' });
const ensembles: readonly HttpCase[] = [
  chain('one step', [through]),
  get('/v2/models/chain/config', 'ensemble: one step, shown'),
  chain('no steps', []),
  chain('no model', [step('', { IN: 'IN' }, { OUT: 'OUT' })]),
  chain('nothing goes in', [step('single', {}, { OUT: 'OUT' })]),
  chain('nothing comes out', [step('single', { IN: 'IN' }, {})]),
  chain('output of no step', [step('single', { IN: 'IN' }, { OUT: 'other' })]),
  chain('input of no step', [step('single', { IN: 'ghost' }, { OUT: 'OUT' })]),
  chain('produced twice', [through, through]),
  chain('output into the input', [step('single', { IN: 'IN' }, { OUT: 'IN' })]),
  chain('an input that nothing reads', [through], { input: [IN, { ...IN, name: 'IN2' }] }),
  chain('an output that nothing reads', [step('single', { IN: 'IN' }, { OUT: 'a' }), through]),
  chain('with instances', [through], group({})),
  chain('with a backend', [through], { backend: 'x' }),
  chain('without steps', [], { ensemble_scheduling: undefined }),
  chain('unknown model', [step('nope', { IN: 'IN' }, { OUT: 'OUT' })]),
  chain('unknown version', [step('single', { IN: 'IN' }, { OUT: 'OUT' }, 9)]),
  chain('unknown input', [step('single', { IN: 'IN', NOPE: 'IN' }, { OUT: 'OUT' })]),
  chain('unknown output', [step('single', { IN: 'IN' }, { NOPE: 'OUT' })]),
  chain('another datatype', [through], input({ data_type: 'TYPE_FP32' })),
  chain('another datatype of the output', [through], output({ data_type: 'TYPE_FP32' })),
  chain('itself', [step('chain', { IN: 'IN' }, { OUT: 'OUT' })]),
];

/** After all others: they change what the models are. */
export const configCases: readonly HttpCase[] = [
  ...Object.entries(taken).flatMap(([name, more]) => [
    load(name, more),
    get('/v2/models/single/config', `configuration: ${name}, shown`),
  ]),
  ...Object.entries(refused).map(([name, more]) => load(name, more)),
  load('at the end', {}),
  ...ensembles,
];

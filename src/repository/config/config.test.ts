import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RepositoryError } from '../errors.ts';
import { completeConfig, instanceCount, parameterText, parameterTruth } from './complete.ts';
import { readConfigJson, readConfigText } from './read.ts';
import { configDepthMax, parseTextFormat } from './text-format.ts';
import { configCharactersMax } from './text-tokens.ts';
import { validateConfig, validateIdentity } from './validate.ts';

const whole = `
# a comment
name: "m" backend: 'pyth' "on";
max_batch_size: 0x10, default_model_filename: "a\\n\\x41\\303\\251"
input [ { name: "a" data_type: TYPE_INT32 dims: [ -1, 2 ] }, { name: "b", data_type: 13, dims: 1
  reshape { shape: [ ] } optional: True } ]
input: < name: "c" data_type: TYPE_FP32 dims: 1 dims: 2 allow_ragged_batch: t >
output { name: "o" data_type: TYPE_STRING dims: [ -1 ] }
parameters: { key: "k" value: { string_value: "v" } }
parameters { key: "unfilled" value { string_value: "\${x}" } }
parameters { key: "yes" value { string_value: "TRUE" } }
instance_group [ { count: 2 kind : KIND_CPU } ]
dynamic_batching { max_queue_delay_microseconds: 100 default_queue_policy { max_queue_size: 5 } }
model_transaction_policy { decoupled: true }
`;

const thrown = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof RepositoryError, String(error));
    return `${error.status} ${error.message}`;
  }
  return 'nothing';
};

describe('config.pbtxt', () => {
  test('everything that the text format allows', () => {
    const config = completeConfig(readConfigText(whole), 'm');
    validateIdentity(config, 'm');
    validateConfig(config);
    assert.equal(config.backend, 'python');
    assert.equal(config.max_batch_size, 16);
    assert.equal(config.default_model_filename, 'a\nAé');
    assert.deepEqual(
      config.input.map(({ name, data_type, dims }) => [name, data_type, dims]),
      [
        ['a', 'TYPE_INT32', [-1, 2]],
        ['b', 'TYPE_STRING', [1]],
        ['c', 'TYPE_FP32', [1, 2]],
      ],
    );
    assert.deepEqual(config.input[1]?.reshape, { shape: [] });
    assert.equal(config.input[1]?.optional, true);
    assert.equal(config.input[2]?.allow_ragged_batch, true);
    assert.deepEqual(config.version_policy, { latest: { num_versions: 1 } });
    assert.deepEqual(config.dynamic_batching?.preferred_batch_size, [16]);
    assert.equal(config.dynamic_batching?.default_queue_policy?.timeout_action, 'REJECT');
    assert.equal(instanceCount(config), 2);
    assert.equal(parameterText(config, 'k'), 'v');
    assert.equal(parameterText(config, 'unfilled'), undefined);
    assert.equal(parameterText(config, 'toString'), undefined);
    assert.equal(parameterTruth(config, 'yes'), true);
    assert.deepEqual(readConfigJson(JSON.stringify(config)), config, 'JSON gives the same back');
  });

  test('refusals name the place', () => {
    const read = (text: string) => thrown(() => readConfigText(text));
    assert.match(
      read(`max_batch_size: ${'$'}{triton_max_batch_size}`),
      /1:17: .*\$\{triton_max_batch_size\} was not filled/,
    );
    assert.match(read('\n nam: "x"'), /2:7: Message type "inference.ModelConfig" has no field named "nam"/);
    assert.match(read('name: "a" name: "b"'), /Non-repeated field "name"/);
    assert.match(read('max_batch_size: 1.5'), /Expected integer, got: 1.5/);
    assert.match(read('max_batch_size: 3000000000'), /Integer out of range/);
    assert.match(read('name: x'), /Expected string, got: x/);
    assert.match(
      read('model_transaction_policy { decoupled: yes }'),
      /Invalid value for boolean field "decoupled"/,
    );
    assert.match(read('input { data_type: TYPE_X }'), /Unknown enumeration value of "TYPE_X"/);
    assert.match(read('input { name: "a"'), /Expected "}"/);
    assert.match(read('name: "a'), /String literals/);
    assert.match(
      read('dynamic_batching { } ensemble_scheduling { }'),
      /another member of oneof "scheduling_choice"/,
    );
    assert.match(read('name "a"'), /Expected ":", found "a"/);
    assert.match(read('}'), /Expected identifier/);
    assert.match(read(`${'input {'.repeat(configDepthMax + 2)}`), /nest deeper/);
    assert.match(read(' '.repeat(configCharactersMax + 1)), /over/);
  });

  test('rules of a configuration', () => {
    const check = (text: string) =>
      thrown(() => {
        const config = completeConfig(readConfigText(text), 'm');
        validateIdentity(config, 'm');
        validateConfig(config);
      });
    assert.match(
      check('name: "n"'),
      /unexpected directory name 'm' for model 'n', directory name must equal model name/,
    );
    assert.match(check('input { name: "a" data_type: TYPE_INT8 dims: 0 }'), /must be integer >= 1, or -1/);
    assert.match(check('input { name: "a" data_type: TYPE_INT8 }'), /must specify 'dims'/);
    assert.match(check('input { name: "a" dims: 1 }'), /must specify 'data_type'/);
    assert.match(
      check('input { name: "a" data_type: TYPE_INT8 dims: 4 reshape { shape: [ 3 ] } }'),
      /different size/,
    );
    assert.match(check('ensemble_scheduling { }'), /ensemble scheduling cannot be set/);
    assert.match(check('platform: "ensemble"'), /ensemble scheduling must be set/);
    assert.match(
      check('platform: "ensemble" ensemble_scheduling { } instance_group { }'),
      /instance group should not/,
    );
    assert.match(check('sequence_batching { }'), /UNSUPPORTED sequence_batching/);
    assert.match(
      check('max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }'),
      /must be <= max batch size/,
    );
    assert.match(check('instance_group { count: 257 }'), /at most 256/);
    assert.equal(
      check(
        'output { name: "a" data_type: TYPE_INT8 dims: 1 } output { name: "a" data_type: TYPE_INT8 dims: 1 }',
      ),
      'nothing',
    );
    assert.match(
      check(
        'output { name: "a" data_type: TYPE_INT8 dims: 1 } output { name: "a" data_type: TYPE_INT8 dims: 2 }',
      ),
      /declared twice/,
    );
  });

  test('JSON overrides', () => {
    const config = readConfigJson(
      '{"maxBatchSize": "4", "parameters": {"a": {"stringValue": "b"}}, "input": [{"name": "x", "dataType": 8, "dims": ["-1"]}]}',
    );
    assert.equal(config.max_batch_size, 4);
    assert.equal(config.input[0]?.data_type, 'TYPE_INT32');
    assert.deepEqual(config.input[0]?.dims, [-1]);
    assert.equal(parameterText(config, 'a'), 'b');
    assert.match(
      thrown(() => readConfigJson('{')),
      /failed to parse the config as JSON/,
    );
    assert.match(
      thrown(() => readConfigJson('[]')),
      /must be a JSON object/,
    );
    assert.match(
      thrown(() => readConfigJson('{"x": 1}')),
      /no field named "x"/,
    );
    assert.equal(readConfigJson('{"input": {"name": "x"}}').input[0]?.name, 'x');
  });

  test('no text makes the reader do anything but read or refuse', () => {
    const pieces = fc.array(
      fc.constantFrom(
        'input',
        '{',
        '}',
        '[',
        ']',
        ':',
        ',',
        '"x"',
        "'",
        '-',
        '1',
        'name',
        ' ',
        '\n',
        '#',
        '<',
        '>',
        '\\',
        '$',
      ),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(pieces, (list) => {
        try {
          parseTextFormat(list.join(''));
          readConfigText(list.join(''));
        } catch (error) {
          assert.ok(error instanceof RepositoryError, String(error));
        }
      }),
    );
  });
});

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { tensorOf, valuesOf } from '../../src/repository/tensor.ts';
import { inferAll, repeatConfig, testRepository } from './model-folder.ts';

const io = (name: string, input: string, output: string) => `
  backend: "identity"
  input { name: "${input}" data_type: TYPE_INT32 dims: [ -1 ] }
  input { name: "extra_${name}" data_type: TYPE_INT32 dims: [ -1 ] optional: true }
  output { name: "${output}" data_type: TYPE_INT32 dims: [ -1 ] }
  output { name: "extra_out_${name}" data_type: TYPE_INT32 dims: [ -1 ] }`;
const step = (model: string, inputs: Record<string, string>, outputs: Record<string, string>) => {
  const map = (kind: string, entries: Record<string, string>) =>
    Object.entries(entries)
      .map(([key, value]) => `${kind} { key: "${key}" value: "${value}" }`)
      .join(' ');
  return `{ model_name: "${model}" model_version: -1 ${map('input_map', inputs)} ${map('output_map', outputs)} }`;
};
const ensemble = (steps: string[], extra = '') => `
  platform: "ensemble"
  input { name: "X" data_type: TYPE_INT32 dims: [ -1 ] }
  output { name: "Y" data_type: TYPE_INT32 dims: [ -1 ] } ${extra}
  ensemble_scheduling { step [ ${steps.join(', ')} ] }`;
const x = (...values: number[]) => tensorOf('X', 'INT32', [values.length], Int32Array.from(values));
const models = {
  'a/config.pbtxt': io('a', 'I', 'O'),
  'a/1/x': '',
  'b/config.pbtxt': io('b', 'I', 'O'),
  'b/1/x': '',
  'r/config.pbtxt': repeatConfig,
  'r/1/x': '',
};

describe('an ensemble', () => {
  test('runs its steps, with optional tensors that are left out', async () => {
    const chain = [
      step('a', { I: 'X', extra_a: 'E' }, { O: 'mid', extra_out_a: 'EO' }),
      step('b', { I: 'mid' }, { O: 'Y' }),
    ];
    const extra = `input { name: "E" data_type: TYPE_INT32 dims: [ -1 ] optional: true }
      output { name: "EO" data_type: TYPE_INT32 dims: [ -1 ] }`;
    const { repository, close } = await testRepository({
      ...models,
      'e/config.pbtxt': ensemble(chain, extra),
    });
    const model = repository.model('e');
    assert.equal(model.metadata.platform, 'ensemble');
    const [without] = await inferAll(model, { inputs: [x(1, 2)] });
    assert.deepEqual(
      without?.outputs.map(({ name }) => name),
      ['Y'],
    );
    assert.deepEqual(without?.parameters, { sequence_id: 0, sequence_start: false, sequence_end: false });
    const [whole] = await inferAll(model, { inputs: [x(1), { ...x(7), name: 'E' }], outputs: ['EO'] });
    assert.deepEqual(
      whole?.outputs.map((tensor) => [tensor.name, ...valuesOf(tensor, 'INT32')]),
      [['EO', 7]],
    );
    assert.equal(repository.statistics('a')[0]?.inference_count, 2);
    assert.equal(repository.statistics('b')[0]?.inference_stats.success.count, 2);
    await close();
  });

  test('is decoupled where a step is, and says which response is the last', async () => {
    const decoupled = [step('r', { IN: 'X' }, { OUT: 'one' }), step('b', { I: 'one' }, { O: 'Y' })];
    const { repository, close } = await testRepository({ ...models, 'e/config.pbtxt': ensemble(decoupled) });
    const model = repository.model('e');
    assert.equal(model.isDecoupled, true);
    const responses = await inferAll(model, { inputs: [x(5, 6, 7)] });
    assert.deepEqual(
      responses.map(({ outputs }) => [...valuesOf(outputs[0]!, 'INT32')]),
      [[5], [6], [7]],
    );
    assert.equal(repository.statistics('e')[0]?.response_stats['3']?.empty_response.count, 1);
    await close();
  });

  test('cancels its steps', async () => {
    const decoupled = [step('r', { IN: 'X', DELAY: 'D' }, { OUT: 'Y' })];
    const delay = 'input { name: "D" data_type: TYPE_UINT32 dims: [ -1 ] }';
    const { repository, close } = await testRepository({
      ...models,
      'e/config.pbtxt': ensemble(decoupled, delay),
    });
    const inputs = [x(1, 2), tensorOf('D', 'UINT32', [2], Uint32Array.of(0, 1e9))];
    let count = 0;
    const inference = repository
      .model('e')
      .infer({ id: '', inputs, parameters: {} }, { respond: () => count++ });
    inference.cancel();
    assert.equal(count, 1);
    assert.equal(repository.statistics('r')[0]?.failures.CANCELED, 1);
    assert.equal(repository.statistics('e')[0]?.failures.CANCELED, 1);
    await close();
  });

  test('an error of a step is the ensemble’s', async () => {
    const bad = [step('r', { IN: 'X', DELAY: 'D' }, { OUT: 'Y' })];
    const delay = 'input { name: "D" data_type: TYPE_UINT32 dims: [ -1 ] }';
    const { repository, close } = await testRepository({ ...models, 'e/config.pbtxt': ensemble(bad, delay) });
    const inputs = [x(1, 2), tensorOf('D', 'UINT32', [1], Uint32Array.of(0))];
    await assert.rejects(inferAll(repository.model('e'), { inputs }), {
      message: "in ensemble 'e', expected IN and DELAY to have equal sizes",
    });
    await close();
  });

  test('wiring that cannot be', async () => {
    const reason = async (config: string) => {
      const { repository, close } = await testRepository({ ...models, 'e/config.pbtxt': config });
      const [failure] = repository.failures();
      await close();
      return failure?.reason ?? 'none';
    };
    const good = step('a', { I: 'X' }, { O: 'Y' });
    assert.equal(await reason(ensemble([good])), 'none');
    assert.match(await reason(ensemble([])), /must specify at least one step/);
    assert.match(
      await reason(ensemble([step('z', { I: 'X' }, { O: 'Y' })])),
      /contains models that are not available or ambiguous: z/,
    );
    assert.match(await reason(ensemble([step('e', { I: 'X' }, { O: 'Y' })])), /circular dependency/);
    assert.match(await reason(ensemble([step('a', {}, { O: 'Y' })])), /must specify 'input_map'/);
    assert.match(await reason(ensemble([step('a', { I: 'X' }, {})])), /must specify 'output_map'/);
    assert.match(await reason(ensemble([step('', { I: 'X' }, { O: 'Y' })])), /must specify 'model_name'/);
    assert.match(
      await reason(ensemble([step('a', { I: 'X' }, { O: 'X' })])),
      /is an input and a step's output/,
    );
    assert.match(
      await reason(ensemble([good, step('b', { I: 'X' }, { O: 'W' })])),
      /nothing reads ensemble tensor 'W'/,
    );
    assert.match(
      await reason(ensemble([good], 'input { name: "W" data_type: TYPE_INT32 dims: [ -1 ] }')),
      /no step reads the input 'W'/,
    );
    assert.match(
      await reason(ensemble([step('a', { I: 'X', Q: 'X' }, { O: 'Y' })])),
      /tensor X is mapping to non-existing input Q in model a/,
    );
    assert.match(
      await reason(ensemble([step('a', { I: 'X' }, { Q: 'Y' })])),
      /tensor Y is mapped from non-existing output Q in model a/,
    );
    assert.match(
      await reason(ensemble([step('a', { I: 'X' }, { O: 'W' })])),
      /no step produces the output 'Y'/,
    );
    assert.match(
      await reason(ensemble([step('a', { I: 'nowhere' }, { O: 'Y' })])),
      /neither an input nor produced/,
    );
    assert.match(await reason(ensemble([good, step('b', { I: 'X' }, { O: 'Y' })])), /only once/);
    assert.match(
      await reason(
        ensemble(
          [
            step('a', { I: 'q' }, { O: 'p' }),
            step('b', { I: 'p' }, { O: 'q' }),
            step('r', { IN: 'p' }, { OUT: 'Y' }),
            step('b', { I: 'X' }, { O: 'Z' }),
          ],
          'output { name: "Z" data_type: TYPE_INT32 dims: [ -1 ] }',
        ),
      ),
      /circular dependency/,
    );
    assert.match(
      await reason(ensemble([step('r', { IN: 'X' }, { IDX: 'Y' })])),
      /inconsistent data type: TYPE_\w+ is inferred from model \w while/,
    );
  });
});

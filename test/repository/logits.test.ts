import assert from 'node:assert/strict';
import { test } from 'node:test';
import { f16ToF32 } from '../../src/base/half.ts';
import type { InferResponse } from '../../src/repository/model.ts';
import { bytesTensor, type Tensor, tensorOf, valuesOf } from '../../src/repository/tensor.ts';
import { byteVocabularySize } from '../openai/byte-tokenizer.ts';
import { type EngineModels, engineModels } from './engine-models.ts';
import { inferAll } from './model-folder.ts';

const int = (name: string, ...values: number[]) =>
  tensorOf(name, 'INT32', [1, values.length], Int32Array.from(values));
const bool = (name: string, value = true) => tensorOf(name, 'BOOL', [1, 1], Uint8Array.of(value ? 1 : 0));
const text = (name: string, value: string) => bytesTensor(name, [1, 1], [value]);

const prompt = 'Hello';
const ids = [...Buffer.from(prompt)];
const direct = [int('input_ids', ...ids), int('input_lengths', ids.length), int('request_output_len', 4)];
const asText = [text('text_input', prompt), int('max_tokens', 4)];
const asked = [bool('return_context_logits'), bool('return_generation_logits')];

function tensorIn(response: InferResponse | undefined, name: string): Tensor | undefined {
  return response?.outputs.find((tensor) => tensor.name === name);
}

function run(
  models: EngineModels,
  name: string,
  inputs: Tensor[],
  outputs?: string[],
): Promise<InferResponse[]> {
  return inferAll(models.repository.model(name), { inputs, ...(outputs && { outputs }) });
}

/** The likeliest token of each row. */
function likeliest(tensor: Tensor | undefined): number[] {
  assert.ok(tensor);
  const values =
    tensor.datatype === 'FP16'
      ? Float32Array.from(valuesOf(tensor, 'FP16'), f16ToF32)
      : valuesOf(tensor, 'FP32');
  return Array.from({ length: values.length / byteVocabularySize }, (_, row) => {
    const own = values.subarray(row * byteVocabularySize, (row + 1) * byteVocabularySize);
    return own.indexOf(Math.max(...own));
  });
}

test('tensorrt_llm shows the logits of the prompt and of each token', async (t) => {
  const models = await engineModels();
  t.after(() => models.close());
  const [response] = await run(models, 'tensorrt_llm', [
    ...direct,
    ...asked,
    bool('exclude_input_in_output'),
  ]);
  const context = tensorIn(response, 'context_logits');
  const generated = tensorIn(response, 'generation_logits');
  assert.deepEqual(context?.shape, [1, ids.length, byteVocabularySize]);
  assert.deepEqual(generated?.shape, [1, 1, 4, byteVocabularySize]);
  const made = [...valuesOf(tensorIn(response, 'output_ids')!, 'INT32')];
  assert.deepEqual(likeliest(generated), made);
  assert.equal(
    likeliest(context).at(-1),
    made[0],
    'the last of the prompt is the first that was chosen from',
  );
});

test('a stream has the prompt’s logits once, and each token’s with it', async (t) => {
  const models = await engineModels();
  t.after(() => models.close());
  const responses = await run(models, 'tensorrt_llm', [...direct, ...asked, bool('streaming')]);
  const shown = responses.filter(({ outputs }) => outputs.length > 0);
  assert.equal(shown.filter((response) => tensorIn(response, 'context_logits')).length, 1);
  assert.ok(tensorIn(shown[0], 'context_logits'));
  for (const response of shown) {
    const made = [...valuesOf(tensorIn(response, 'output_ids')!, 'INT32')];
    if (made.length > 0) assert.deepEqual(likeliest(tensorIn(response, 'generation_logits')), made);
  }
});

for (const name of ['ensemble', 'tensorrt_llm_bls']) {
  test(`${name} hands logits on`, async (t) => {
    const models = await engineModels();
    t.after(() => models.close());
    const [response] = await run(models, name, [...asText, ...asked]);
    assert.deepEqual(tensorIn(response, 'context_logits')?.shape, [1, ids.length, byteVocabularySize]);
    assert.deepEqual(tensorIn(response, 'generation_logits')?.shape, [1, 1, 4, byteVocabularySize]);
    const [plain] = await run(models, name, asText);
    assert.equal(tensorIn(plain, 'context_logits'), undefined);
  });
}

test('logits that no output takes are not made', async (t) => {
  const models = await engineModels();
  t.after(() => models.close());
  const outputs = ['output_ids', 'sequence_length', 'generation_logits'];
  const [response] = await run(models, 'tensorrt_llm', [...direct, ...asked], outputs);
  assert.deepEqual(response?.outputs.map((tensor) => tensor.name).sort(), [...outputs].sort());
});

test('every sequence of several shows its own', async (t) => {
  const models = await engineModels();
  t.after(() => models.close());
  const several = [int('num_return_sequences', 2), bool('exclude_input_in_output')];
  const responses = await run(models, 'tensorrt_llm', [...direct, ...asked, ...several]);
  assert.equal(responses.filter(({ outputs }) => outputs.length > 0).length, 2);
  for (const response of responses.filter(({ outputs }) => outputs.length > 0)) {
    const made = [...valuesOf(tensorIn(response, 'output_ids')!, 'INT32')];
    assert.deepEqual(likeliest(tensorIn(response, 'generation_logits')), made);
    assert.ok(tensorIn(response, 'context_logits'));
  }
});

test('logits come in the type that the configuration declares; one that is no float is refused', async (t) => {
  const halves = await engineModels({ values: { logits_datatype: 'TYPE_FP16' } });
  t.after(() => halves.close());
  const [response] = await run(halves, 'tensorrt_llm', [
    ...direct,
    ...asked,
    bool('exclude_input_in_output'),
  ]);
  const generated = tensorIn(response, 'generation_logits');
  assert.equal(generated?.datatype, 'FP16');
  assert.deepEqual(likeliest(generated), [...valuesOf(tensorIn(response, 'output_ids')!, 'INT32')]);
  const integers = await engineModels({ values: { logits_datatype: 'TYPE_INT32' } });
  t.after(() => integers.close());
  const [failure] = integers.repository.failures();
  assert.match(String(failure?.reason ?? failure), /logits_datatype/);
});

test('what takes more memory than there is for logits, and what beams cannot show, is refused', async (t) => {
  const models = await engineModels();
  t.after(() => models.close());
  const beams = run(models, 'tensorrt_llm', [...direct, ...asked, int('beam_width', 2)]);
  await assert.rejects(beams, /beam search returns no generation logits/);
  const wishes = [bool('return_context_logits'), int('beam_width', 2)];
  const [response] = await run(models, 'tensorrt_llm', [...direct, ...wishes]);
  assert.deepEqual(tensorIn(response, 'context_logits')?.shape, [1, ids.length, byteVocabularySize]);
  Object.assign(models.host.engines[0]!.description, { outputBytesMax: 1000 });
  await assert.rejects(run(models, 'tensorrt_llm', [...direct, ...asked]), /--output-memory/);
});

/** `tensorrt_llm_draft_model_name`: BLS's loop of a draft model and a target. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesTensor, type Tensor, tensorOf, textsOf, valuesOf } from '../../src/repository/tensor.ts';
import { promptOf } from '../openai/test-server.ts';
import { type EngineModels, engineModels } from './engine-models.ts';
import { inferAll } from './model-folder.ts';

const int = (name: string, value: number) => tensorOf(name, 'INT32', [1, 1], Int32Array.of(value));
const bool = (name: string) => tensorOf(name, 'BOOL', [1, 1], Uint8Array.of(1));
const says = 'Grüße 🙂, world! ';

async function ask(models: EngineModels, ...extra: Tensor[]) {
  const inputs = [bytesTensor('text_input', [1, 1], [promptOf(says)]), int('max_tokens', 19), ...extra];
  const [response] = await inferAll(models.repository.model('tensorrt_llm_bls'), { inputs });
  const tensor = (name: string) => response?.outputs.find((one) => one.name === name);
  const number = (name: string) => Number(valuesOf(tensor(name)!, 'INT32')[0]);
  return { text: textsOf(tensor('text_output')!)[0], number };
}

// The engine drafts for itself: what it says greedily, it accepts.
const values = { tensorrt_llm_draft_model_name: 'tensorrt_llm' };

test('rounds of drafts make the text that the engine makes alone', async (t) => {
  const models = await engineModels({ says, values });
  t.after(() => models.close());
  const plain = await ask(models);
  for (const count of [1, 4, 50]) {
    const { text, number } = await ask(models, int('num_draft_tokens', count), bool('return_perf_metrics'));
    assert.equal(text, plain.text);
    assert.ok(number('total_draft_tokens') > 0);
    assert.equal(number('total_accepted_draft_tokens'), number('total_draft_tokens'));
  }
});

test('the end of the text, stop words, and where drafts cannot be', async (t) => {
  const models = await engineModels({ says: 'Yes.', thenStops: true, values });
  t.after(() => models.close());
  const prompt = bytesTensor('text_input', [1, 1], [promptOf('Yes.', true)]);
  const inputs = [prompt, int('max_tokens', 30), int('num_draft_tokens', 2)];
  const [ended] = await inferAll(models.repository.model('tensorrt_llm_bls'), { inputs });
  assert.equal(textsOf(ended!.outputs.find(({ name }) => name === 'text_output')!)[0], 'Yes.');
  const endless = await engineModels({ says, values });
  t.after(() => endless.close());
  const stop = bytesTensor('stop_words', [1, 1], ['wor']);
  assert.equal((await ask(endless, int('num_draft_tokens', 3), stop)).text, 'Grüße 🙂, wor');
  for (const name of ['stream', 'return_context_logits']) {
    const refused = ask(endless, int('num_draft_tokens', 3), bool(name));
    await assert.rejects(refused, { message: new RegExp(`does not go together with ${name}`) });
  }
});

/** The EAGLE-style head of nereid-16m: greedy texts are the model's own on `reference`, and most of its guesses hold. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ensureEngine } from '../../src/artifact/resolver.ts';
import { packageRoot } from '../../src/base/entry.ts';
import { openDraftHead } from '../../src/builder/open-draft-head.ts';
import { openEngine } from '../../src/builder/open-engine.ts';
import { silentReporter } from '../../src/builder/reporter.ts';
import { nullModelSource } from '../../src/device/null/index.ts';
import { EngineCore } from '../../src/runtime/loop/engine-core.ts';
import { type EngineSizes, loadModel } from '../../src/runtime/process/load-model.ts';
import { loadSpeculation } from '../../src/runtime/process/load-speculation.ts';
import { type GenerationRequest, greedySampling } from '../../src/runtime/requests/request.ts';
import { openTokenizer } from '../../src/tokenizer/open.ts';
import { temporaryFolder } from '../support/checkpoint-files.ts';
import { auditedEngine, Outcomes, outcomesAlone, requestOf } from '../support/engine-simulator.ts';
import { startServe } from '../support/serve.ts';

process.env.NEREID_CACHE ??= join(packageRoot, '.cache', 'draft-head');
process.env.NEREID_OFFLINE = '1';
const head = join(packageRoot, 'models/nereid-16m-eagle');
const chat = '<|im_start|>user\nWhat is a lighthouse?<|im_end|>\n<|im_start|>assistant\n';

const sizes: EngineSizes = {
  ...{ device: 'reference', deviceOptions: {}, threads: 1, slots: 2, batchTokensMax: 64 },
  ...{ kvDtype: 'f32', prefixReuse: true, contextLength: 96 },
};

test('greedy text on reference, and what holds of the guesses', async () => {
  const { folder } = await ensureEngine('nereid-16m', { reporter: silentReporter });
  const { source, tokenizerFolder } = await openEngine(folder);
  const tokenizer = await openTokenizer(tokenizerFolder!);
  const promptTokens = tokenizer.encode(chat, { addSpecialTokens: false });
  const texts: number[][] = [];
  let drafts = { draftTokens: 0, acceptedDraftTokens: 0 };
  for (const isGuessing of [false, true]) {
    const speculation = isGuessing
      ? await loadSpeculation(
          { method: 'draft-head', draftsMax: 4 },
          source,
          openDraftHead(head, source),
          sizes,
        )
      : undefined;
    const { model, device, options } = await loadModel('nereid-16m', source, sizes);
    const tokens: number[] = [];
    const core = new EngineCore(model, { ...options, speculation, inFlightStepsMax: 1 }, (events) => {
      for (const event of events) tokens.push(...event.tokens);
    });
    core.submit(requestOf({ id: 0, promptTokens, maxTokens: 20, sampling: greedySampling }));
    while (core.hasRunnable) await core.step();
    drafts = core.statistics();
    texts.push(tokens);
    model.close();
    device.close();
  }
  assert.deepEqual(texts[1], texts[0]);
  assert.match(tokenizer.decode(texts[0]!), /^lighthouse \(noun\)/);
  const { draftTokens, acceptedDraftTokens } = drafts;
  assert.ok(draftTokens >= 4, `${draftTokens} drafts`);
  assert.ok(acceptedDraftTokens >= draftTokens / 2, `${acceptedDraftTokens} of ${draftTokens} held`);
});

for (const stepsInFlight of [1, 2]) {
  test(`a head that mostly errs changes no text: ${stepsInFlight} steps in flight, pauses, several sequences`, async () => {
    const source = nullModelSource({ vocabularySize: 997, contextLength: 160 });
    const own: EngineSizes = { ...sizes, device: 'null', slots: 4, batchTokensMax: 24, kvBlockPositions: 8 };
    const speculation = await loadSpeculation({ method: 'draft-head', draftsMax: 6 }, source, source, {
      ...own,
      contextLength: 40,
    });
    const outcomes = new Outcomes();
    const options = { speculation, slots: 4, inFlightStepsMax: stepsInFlight };
    const { core } = await auditedEngine({ ...options, capacityPolicy: 'max_utilization' }, (events) =>
      outcomes.take(events),
    );
    const requests: GenerationRequest[] = Array.from({ length: 9 }, (_, id) =>
      requestOf({
        ...{ id, maxTokens: 60, sequences: id % 4 === 0 ? 2 : 1 },
        promptTokens: Int32Array.from({ length: 3 + id * 6 }, (_, at) => (at * 7 + (id % 2)) % 900),
        sampling: { ...greedySampling, temperature: id % 3 === 0 ? 0 : 0.9, seed: id },
      }),
    );
    for (const request of requests) core.submit(request);
    while (core.hasRunnable) await core.step();
    for (const request of requests) {
      for (const [sequence, expected] of (await outcomesAlone(request)).entries()) {
        assert.deepEqual(outcomes.of(request.id, sequence), expected, `request ${request.id}/${sequence}`);
      }
    }
    assert.ok(core.statistics().draftTokens > 0);
  });
}

test('nereid serve --draft-head, as docs/speculation.md prints it', async (t) => {
  const printed = /^nereid serve nereid-16m (--draft-head \S+)/m.exec(
    readFileSync(join(packageRoot, 'docs/speculation.md'), 'utf8'),
  );
  assert.ok(printed?.[1]);
  const server = await startServe('draft-head', printed[1].split(' '));
  t.after(() => server.stop());
  const ask = async (more: object) => {
    const messages = [{ role: 'user', content: 'What is a lighthouse?' }];
    const response = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'nereid-16m', temperature: 0, max_tokens: 32, messages, ...more }),
    });
    type Answer = {
      choices: { message: { content: string } }[];
      usage: { completion_tokens_details?: { accepted_prediction_tokens: number } };
    };
    const { choices, usage } = (await response.json()) as Answer;
    return { text: choices[0]?.message.content, details: usage.completion_tokens_details };
  };
  const plain = await ask({ num_speculative_tokens: 0 });
  assert.match(plain.text ?? '', /^lighthouse \(noun\)/);
  assert.equal(plain.details, undefined);
  const guessed = await ask({});
  assert.equal(guessed.text, plain.text);
  assert.ok((guessed.details?.accepted_prediction_tokens ?? 0) > 0);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  assert.match(metrics, /^vllm:spec_decode_num_accepted_tokens_per_pos_total\{.*position="0".*\} [1-9]/m);
});

test('what is no head of the model is refused', (t) => {
  const target = { ...nullModelSource({ vocabularySize: 4096, contextLength: 64 }), hiddenWidth: 512 };
  assert.throws(
    () => openDraftHead(join(packageRoot, 'models/nereid-draft'), target),
    /LlamaForCausalLM.*--draft-model/,
  );
  assert.throws(() => openDraftHead(packageRoot, target), { code: 'CHECKPOINT_INCOMPLETE' });
  const narrow = { ...target, hiddenWidth: 256 };
  assert.throws(
    () => openDraftHead(head, narrow),
    /512 columns and 4096 tokens, and the model has 256 and 4096/,
  );
  assert.throws(() => openDraftHead(head, target), /has no tensor 'token_embd.weight'/);
  const folder = join(temporaryFolder(t), 'deep');
  mkdirSync(folder);
  const config = {
    ...{ architectures: ['EagleLlamaForCausalLM'], hidden_size: 8, num_attention_heads: 2, vocab_size: 9 },
    ...{ num_hidden_layers: 2, intermediate_size: 8, max_position_embeddings: 16, hidden_act: 'silu' },
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  assert.throws(() => openDraftHead(folder, target), /num_hidden_layers is 2; an EAGLE head has one layer/);
});

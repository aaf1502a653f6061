/** Drafts with their logits through an engine on `reference`: sampled texts are distributed as without drafts. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { SeededRandom } from '../../src/base/random.ts';
import { openDevice } from '../../src/device/reference/index.ts';
import { EngineCore } from '../../src/runtime/loop/engine-core.ts';
import { type GenerationRequest, greedySampling } from '../../src/runtime/requests/request.ts';
import { Candidates } from '../../src/runtime/sampling/candidates.ts';
import type { Distribution } from '../../src/runtime/sampling/distribution.ts';
import { likeliest } from '../../src/runtime/sampling/logit-row.ts';
import { hfGoldens, sourceOfHuggingFace } from '../device/golden-models.ts';
import { loadModel } from '../device/steps.ts';
import { temporaryFolder } from '../support/checkpoint-files.ts';
import { Outcomes, requestOf } from '../support/engine-simulator.ts';

const golden = hfGoldens().find(({ name }) => name === 'llama2')!;
const [prompt] = golden.prompts as [number[]];
const width = golden.vocabulary;
const sampling = { ...greedySampling, temperature: 1.5, topK: 12, topP: 0.95 };
const texts = 3000;
const contextLength = 64;

/** Of a row of logits as the request's sampling cuts it. */
function distributionOf(logits: Float32Array): Distribution {
  const row = { logits, start: 0, width };
  return new Candidates(width).distribution(row, likeliest(row), sampling);
}

function drawn({ tokens, probabilities }: Distribution, uniform: number): number {
  let left = uniform;
  for (const [index, probability] of probabilities.entries()) {
    left -= probability;
    if (left < 0) return tokens[index]!;
  }
  return tokens.at(-1)!;
}

test('the first token of many texts, whose drafts came from elsewhere', async (t) => {
  const source = await sourceOfHuggingFace(golden.folder, join(temporaryFolder(t), 'model.gguf'));
  const device = await openDevice({});
  const model = await loadModel(
    device,
    { ...source, contextLength },
    {
      ...{ slots: 32, batchTokensMax: 256, kvDtype: 'f32' as const, threads: 1 },
    },
  );
  t.after(() => {
    model.close();
    device.close();
  });
  const outcomes = new Outcomes();
  const core = new EngineCore(
    model,
    {
      ...{ name: 'golden', device: 'reference', vocabularySize: width, contextLength },
      ...{ sequencesMax: 32, batchTokensMax: 256, queuedRequestsMax: texts, inFlightStepsMax: 1 },
      kvBytesMax: 32 * contextLength * model.kv.bytesPerPosition,
    },
    (events) => outcomes.take(events),
  );
  const random = new SeededRandom(11);
  const last = golden.logits[0]!.subarray((prompt.length - 1) * width, prompt.length * width);
  // Near the model's own, so that about half of the drafts hold.
  const other = Float32Array.from(last, (logit) => logit + 2 * (random.next() * 2 - 1));
  const drafted = distributionOf(other);
  for (let id = 0; id < texts; id++) {
    const request: GenerationRequest = requestOf({
      ...{ id, promptTokens: Int32Array.from(prompt), maxTokens: 2 },
      sampling: { ...sampling, seed: id },
      draft: { tokens: Int32Array.of(drawn(drafted, random.next())), logits: other },
    });
    core.submit(request);
  }
  while (core.hasRunnable) await core.step();
  const target = distributionOf(Float32Array.from(last));
  const counts = new Map<number, number>();
  for (let id = 0; id < texts; id++) {
    const token = outcomes.of(id, 0).tokens[0]!;
    counts.set(token, (counts.get(token) ?? 0) + 1);
  }
  let chiSquare = 0;
  for (const [index, token] of target.tokens.entries()) {
    const expected = target.probabilities[index]! * texts;
    chiSquare += ((counts.get(token) ?? 0) - expected) ** 2 / expected;
    counts.delete(token);
  }
  assert.deepEqual([...counts], [], 'no token that the cuts leave out');
  // 11 degrees of freedom: a right rule is over it once in 100,000 seeds.
  assert.ok(chiSquare < 44, `χ² ${chiSquare}`);
  const { draftTokens, acceptedDraftTokens } = core.statistics();
  const overlap = target.tokens.reduce((sum, token, index) => {
    const at = drafted.tokens.indexOf(token);
    return sum + Math.min(target.probabilities[index]!, at < 0 ? 0 : drafted.probabilities[at]!);
  }, 0);
  assert.equal(draftTokens, texts);
  assert.ok(
    Math.abs(acceptedDraftTokens / texts - overlap) < 0.05,
    `${acceptedDraftTokens / texts} of ${overlap}`,
  );
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { auditedEngine, Outcomes, outcomesAlone, requestOf } from '../../../test/support/engine-simulator.ts';
import { nullModelSource } from '../../device/null/index.ts';
import type { EngineSizes } from '../process/load-model.ts';
import { loadSpeculation } from '../process/load-speculation.ts';
import { type GenerationRequest, greedySampling } from '../requests/request.ts';

const size = { vocabularySize: 997, contextLength: 160 };
const source = nullModelSource(size);
const sizes: EngineSizes = {
  device: 'null',
  deviceOptions: {},
  threads: 1,
  slots: 4,
  batchTokensMax: 24,
  kvDtype: 'f16',
  kvBlockPositions: 8,
  prefixReuse: true,
};

/** Requests that are greedy, sampled and penalized, some over one prompt, with prompts longer than one of the draft model's steps. */
function requests(): GenerationRequest[] {
  return Array.from({ length: 9 }, (_, id) =>
    requestOf({
      id,
      promptTokens: Int32Array.from({ length: 3 + id * 6 }, (_, at) => (at * 7 + (id % 2)) % 900),
      maxTokens: 30,
      sequences: id % 4 === 0 ? 2 : 1,
      sampling: {
        ...greedySampling,
        temperature: id % 3 === 0 ? 0 : 0.9,
        presencePenalty: id % 5 === 4 ? 1 : 0,
        seed: id,
      },
    }),
  );
}

const arrangements: [label: string, deviceOptions: Record<string, string>, kvBlockPositions: number][] = [
  ['on the device, in blocks', {}, 8],
  ['on the host, in slots', { sampling: 'host' }, size.contextLength],
];
for (const [label, deviceOptions, kvBlockPositions] of arrangements) {
  test(`a draft model that is the model itself: every draft holds, drawn ${label}`, async () => {
    const own = { ...sizes, deviceOptions, kvBlockPositions };
    const speculation = await loadSpeculation({ method: 'draft-model', draftsMax: 6 }, source, source, own);
    const outcomes = new Outcomes();
    const { core } = await auditedEngine({ speculation, slots: 4, deviceOptions }, (events) =>
      outcomes.take(events),
    );
    const all = requests();
    for (const request of all) core.submit(request);
    while (core.hasRunnable) await core.step();
    for (const request of all) {
      for (const [sequence, expected] of (await outcomesAlone(request)).entries()) {
        assert.deepEqual(outcomes.of(request.id, sequence), expected, `request ${request.id}/${sequence}`);
      }
    }
    const { draftTokens, acceptedDraftTokens } = core.statistics();
    assert.ok(draftTokens > 50, `${draftTokens} drafts`);
    // Penalties look at what was said, and the draft model's own drafts were not.
    assert.ok(acceptedDraftTokens >= draftTokens * 0.9, `${acceptedDraftTokens} of ${draftTokens} held`);
  });
}

test('a draft model with another vocabulary is refused', async () => {
  const other = nullModelSource({ vocabularySize: 500, contextLength: 160 });
  await assert.rejects(loadSpeculation({ method: 'draft-model' }, source, other, sizes), /vocabulary of 500/);
  await assert.rejects(loadSpeculation({ method: 'draft-model' }, source, undefined, sizes), /--draft-model/);
});

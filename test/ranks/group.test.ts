import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { hfGoldens, sourceOfHuggingFace } from '../device/golden-models.ts';
import { relativeError, stepLogits } from '../device/steps.ts';
import { sharedPath, skipWithout } from '../support/shared.ts';
import { greedyTexts } from './greedy.ts';
import { buildForGroup, ranksOfEngine, ranksOfGguf, startGroup } from './in-process-group.ts';

const skip = skipWithout('models/stories260K');
const folder = mkdtempSync(join(tmpdir(), 'nereid-ranks-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const gguf = sharedPath('models/stories260K/stories260K-f32.gguf');
const shapes = [
  { tensor: 1, pipeline: 2 },
  { tensor: 2, pipeline: 1 },
  { tensor: 2, pipeline: 2 },
  { tensor: 4, pipeline: 1 },
  { tensor: 8, pipeline: 1 },
];

interface Golden {
  prompts: { prompt: string; prompt_ids: number[]; greedy_ids: number[] }[];
}

for (const deviceName of ['reference', 'ggml']) {
  for (const shape of shapes) {
    test(`${deviceName}: ${shape.tensor} tensor ranks × ${shape.pipeline} stages write the golden texts`, {
      skip,
    }, async () => {
      const { prompts } = JSON.parse(
        readFileSync(sharedPath('models/stories260K/golden.json'), 'utf8'),
      ) as Golden;
      const engine = await buildForGroup(gguf, folder, shape);
      const size = { blocks: prompts.length, contextLength: 96, batchTokensMax: 96 };
      const group = await startGroup(ranksOfEngine(engine), folder, shape, deviceName, size);
      const count = deviceName === 'reference' ? 10 : 40;
      try {
        const texts = await greedyTexts(
          group.model,
          prompts.map(({ prompt_ids }) => prompt_ids),
          count,
        );
        for (const [index, { prompt, greedy_ids }] of prompts.entries()) {
          const expected = greedy_ids.slice(0, count);
          assert.deepEqual(texts[index]?.slice(0, expected.length), expected, prompt);
        }
      } finally {
        await group.close();
      }
    });
  }
}

for (const golden of hfGoldens()) {
  test(`${golden.name}: a group's logits are transformers'`, async () => {
    const path = join(folder, `${golden.name}.gguf`);
    const { kv } = await sourceOfHuggingFace(golden.folder, path);
    const shape = { tensor: 2, pipeline: kv.layers.length > 1 ? 2 : 1 };
    const parts = mkdtempSync(join(folder, `${golden.name}-`));
    for (const [deviceName, tolerance] of [
      ['reference', 1e-4],
      ['ggml', 5e-3],
    ] as const) {
      const sourceOf = await ranksOfGguf(path, parts, shape);
      const [prompt = []] = golden.prompts;
      const size = { blocks: 1, contextLength: prompt.length, batchTokensMax: prompt.length };
      const group = await startGroup(sourceOf, parts, shape, deviceName, size);
      try {
        const logits = await stepLogits(group.model, [{ slot: 0, position: 0, tokens: prompt }]);
        const error = relativeError(logits, golden.logits[0] as Float32Array);
        assert.ok(error < tolerance, `${deviceName}: relative error ${error}`);
      } finally {
        await group.close();
      }
    }
  });
}

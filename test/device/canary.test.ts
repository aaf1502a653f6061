import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openDevice } from '../../src/device/reference/index.ts';
import type { Hyperparameters } from '../../src/models/hyperparameters.ts';
import { hfGoldens, sourceOfHuggingFace } from './golden-models.ts';
import { loadModel, relativeError, stepLogits } from './steps.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-canary-'));
after(() => rmSync(folder, { recursive: true }));

const unscaled = (p: Hyperparameters): Hyperparameters => {
  const { theta, dimensions } = p.rope!;
  return { ...p, rope: { theta, dimensions } };
};

/** Mistakes that must show in the goldens' logits by far more than any device is allowed. */
const mistakes: Record<string, (p: Hyperparameters) => Hyperparameters> = {
  'llama-linear': unscaled,
  'llama-yarn': unscaled,
  llama3: unscaled,
  mistral: ({ window: _, ...p }) => p,
  llama2: (p) => ({ ...p, rope: { ...p.rope!, theta: 20000 } }),
  qwen2: (p) => ({ ...p, normEpsilon: 0.1 }),
  gpt2: (p) => ({ ...p, normEpsilon: 0.1 }),
};

for (const [name, change] of Object.entries(mistakes)) {
  test(`canary: ${name}'s golden notices a wrong hyperparameter`, async () => {
    const golden = hfGoldens().find((candidate) => candidate.name === name)!;
    const source = await sourceOfHuggingFace(golden.folder, join(folder, `${name}.gguf`), 'f32', change);
    const options = { slots: 1, batchTokensMax: 64, threads: 1, kvDtype: 'f32' as const };
    const model = await loadModel(openDevice(), source, options);
    const logits = await stepLogits(model, [{ slot: 0, position: 0, tokens: golden.prompts.at(-1)! }]);
    const error = relativeError(logits, golden.logits.at(-1)!);
    assert.ok(error > 0.02, `relative error ${error} would pass unnoticed`);
  });
}

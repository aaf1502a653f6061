import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../src/base/entry.ts';
import { devices } from '../src/device/registry.ts';
import { EngineCore } from '../src/runtime/loop/engine-core.ts';
import type { SequenceEvent } from '../src/runtime/requests/events.ts';
import { type GenerationRequest, greedySampling } from '../src/runtime/requests/request.ts';
import { sourceOfHuggingFace } from './device/golden-models.ts';
import { loadModel } from './device/steps.ts';

/** What `tools/goldens/make_beam_goldens.py` found. */
interface Golden {
  model: string;
  prompt: number[];
  eos: number | null;
  num_beams: number;
  length_penalty: number;
  early_stopping: boolean | 'never';
  tokens: number[][];
  scores: number[];
}

const goldens = JSON.parse(
  readFileSync(join(packageRoot, 'test/goldens/beams/golden.json'), 'utf8'),
) as Golden[];
const newTokens = 10;
const contextLength = 64;

function requestOf(golden: Golden, id: number): GenerationRequest {
  return {
    id,
    promptTokens: Int32Array.from(golden.prompt),
    sampling: greedySampling,
    maxTokens: newTokens,
    minTokens: 0,
    stopTokenIds: golden.eos === null ? [] : [golden.eos],
    sequences: golden.num_beams,
    priority: 0,
    beams: {
      width: golden.num_beams,
      lengthPenalty: golden.length_penalty,
      earlyStopping: golden.early_stopping,
      diversityRate: 0,
    },
  };
}

/** All searches over one model in one batch, as far as they fit. */
async function search(deviceName: string, model: string, own: readonly Golden[], blockPositions: number) {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-beams-'));
  const device = await (await devices.load(deviceName)).openDevice({});
  try {
    const source = await sourceOfHuggingFace(
      join(packageRoot, 'test/goldens/hf', model),
      join(folder, 'model.gguf'),
    );
    const limits = { slots: 12, blockPositions, batchTokensMax: 64, kvDtype: 'f32' as const, threads: 1 };
    const loaded = await loadModel(device, { ...source, contextLength }, limits);
    const texts = new Map<string, SequenceEvent>();
    const core = new EngineCore(
      loaded,
      {
        ...{ name: model, device: deviceName, contextLength, sequencesMax: 12, batchTokensMax: 64 },
        vocabularySize: source.vocabularySize,
        kvBytesMax: 12 * contextLength * loaded.kv.bytesPerPosition,
      },
      (events) => {
        for (const event of events) texts.set(`${event.requestId}/${event.sequence}`, event);
      },
    );
    for (const [id, golden] of own.entries()) core.submit(requestOf(golden, id));
    while (core.hasRunnable) await core.step();
    assert.equal(core.kvUsage().bytesReserved, 0, 'all places were given back');
    loaded.close();
    return texts;
  } finally {
    device.close();
    rmSync(folder, { recursive: true });
  }
}

for (const [device, blockPositions] of [
  ['reference', 8],
  ['ggml', contextLength],
] as const) {
  for (const model of ['smollm', 'qwen3']) {
    test(`${device}: beams say what HF transformers' beams say on ${model}, many searches in one batch`, async () => {
      const own = goldens.filter((golden) => golden.model === model);
      assert.ok(own.length > 30);
      const texts = await search(device, model, own, blockPositions);
      for (const [id, golden] of own.entries()) {
        const label = JSON.stringify({ ...golden, tokens: undefined, scores: undefined });
        for (const [index, tokens] of golden.tokens.entries()) {
          const event = texts.get(`${id}/${index}`);
          assert.deepEqual(event?.tokens, tokens, `${label}, text ${index}`);
          assert.ok(Math.abs((event?.beam?.score ?? 0) - golden.scores[index]!) < 2e-3, `${label}, score`);
          assert.equal(
            event?.finish,
            golden.eos !== null && tokens.at(-1) === golden.eos ? 'stop' : 'length',
          );
        }
      }
    });
  }
}

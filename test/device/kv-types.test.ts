import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { Device, DeviceModel } from '../../src/device/device.ts';
import { openDevice as openGgml } from '../../src/device/ggml/index.ts';
import { openDevice as openReference } from '../../src/device/reference/index.ts';
import { type HfGolden, hfGoldens, sourceOfHuggingFace } from './golden-models.ts';
import { loadModel, operate, operation, relativeError, stepLogits } from './steps.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-kv-types-'));
after(() => rmSync(folder, { recursive: true }));

const settings = { slots: 3, batchTokensMax: 64, threads: 1, kvDtype: 'q8_0' as const };

async function open(
  device: Device,
  golden: HfGolden,
  kvDtype: 'q8_0' | 'f32' = 'q8_0',
): Promise<DeviceModel> {
  const path = join(folder, `${golden.name}.gguf`);
  const source = await sourceOfHuggingFace(golden.folder, path);
  return loadModel(device, { ...source, contextLength: 64 }, { ...settings, kvDtype });
}

/** Logits of a prompt in chunks, of a copy of its slot that goes on, and of decoding row by row beside another. */
async function logitsOf(model: DeviceModel, prompt: readonly number[]): Promise<Float32Array> {
  const half = prompt.length >> 1;
  const parts = [
    await stepLogits(model, [{ slot: 0, position: 0, tokens: prompt.slice(0, half) }]),
    await stepLogits(model, [{ slot: 0, position: half, tokens: prompt.slice(half) }]),
  ];
  await operate(model, operation('copy', 0, 2, half));
  for (const [index, token] of prompt.slice(half).entries()) {
    const beside = { slot: 1, position: index, tokens: prompt.slice(index, index + 1) };
    parts.push(await stepLogits(model, [{ slot: 2, position: half + index, tokens: [token] }, beside], [0]));
  }
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

describe('a KV cache of q8_0', () => {
  for (const golden of hfGoldens().filter(({ name }) => ['mistral', 'qwen3', 'smollm'].includes(name))) {
    test(`${golden.name}: ggml is as near to transformers as the definition is`, async (t) => {
      const prompt = golden.prompts.at(-1)!;
      const devices = { reference: openReference(), ggml: openGgml({}) };
      const exact = await open(devices.reference, golden, 'f32');
      const expected = await logitsOf(exact, prompt);
      exact.close();
      for (const [name, device] of Object.entries(devices)) {
        const model = await open(device, golden);
        const perElement = model.kv.bytesPerPosition / (2 * 2 * 32);
        const actual = await logitsOf(model, prompt);
        const error = relativeError(actual, expected);
        t.diagnostic(`${name}: relative error ${error.toExponential(1)} of float32's`);
        // 8 bits of a head's 32 numbers, keys and values alike; ggml rounds queries so, too.
        assert.ok(error > 1e-5 && error < 2e-2, `${name}: relative error ${error}`);
        if (name === 'ggml') assert.equal(perElement % (34 / 32), 0, 'bytes of whole blocks');
        model.close();
        device.close();
      }
    });
  }

  test('heads that are no whole blocks are refused with what to do', async () => {
    const narrow = hfGoldens().find(({ name }) => name === 'gpt2')!;
    for (const device of [openGgml({})]) {
      await assert.rejects(open(device, narrow), /q8_0 has blocks of 32.*heads have 16.*--kv-dtype f16/);
      device.close();
    }
  });
});

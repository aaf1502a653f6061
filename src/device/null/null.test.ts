import assert from 'node:assert/strict';
import { test } from 'node:test';
import { batchOf, loadModel, operate, operation, runStep, stepTokens } from '../../../test/device/steps.ts';
import type { DeviceModel } from '../device.ts';
import { want } from '../step.ts';
import { nullModelSource, openDevice } from './index.ts';

const size = { vocabularySize: 100, contextLength: 64 };

function load(options: Record<string, string> = {}, blockPositions?: number): Promise<DeviceModel> {
  const modelOptions = { slots: 3, batchTokensMax: 32, kvDtype: 'f16' as const, threads: 1, blockPositions };
  return loadModel(openDevice(options), nullModelSource(size), modelOptions);
}

const batch = (slot: number, position: number, tokens: number[]) => ({ slot, position, tokens });

async function tokenOf(model: DeviceModel, step: ReturnType<typeof batch>): Promise<number> {
  const [token] = await stepTokens(model, [step], [step.tokens.length - 1]);
  return token!;
}

test('a token depends on the whole history and on nothing else', async () => {
  const model = await load();
  const whole = await tokenOf(model, batch(0, 0, [1, 2, 3, 4]));
  await runStep(model, [batch(1, 0, [1, 2])], { outputRows: [] });
  assert.equal(await tokenOf(model, batch(1, 2, [3, 4])), whole, 'chunks make no difference');
  await operate(model, operation('copy', 0, 2, 3));
  assert.equal(await tokenOf(model, batch(2, 3, [4])), whole, 'nor does a copied prefix');
  const others = new Set<number>();
  for (let first = 0; first < 50; first++) others.add(await tokenOf(model, batch(0, 0, [first, 2, 3, 4])));
  assert.ok(others.size > 20, 'another first token makes another answer');
  const paged = await load({}, 2);
  const [token] = await stepTokens(paged, [{ blocks: [4, 1], position: 0, tokens: [1, 2, 3, 4] }], [3]);
  assert.equal(token, whole, 'nor do blocks');
});

test('gaps, released slots and bad rows are found', async () => {
  const model = await load();
  await assert.rejects(stepTokens(model, [batch(0, 1, [1])]), /gap/);
  await stepTokens(model, [batch(0, 0, [1, 2])]);
  await assert.rejects(operate(model, operation('copy', 0, 1, 3)), /holds 2 positions/);
  await assert.rejects(stepTokens(model, [batch(0, 2, [100])]), /vocabulary/);
  await assert.rejects(stepTokens(model, [batch(0, 2, [1])], [1]), /output row/);
  await operate(model, operation('release', 0));
  await assert.rejects(stepTokens(model, [batch(0, 2, [1])]), /gap/);
});

test('few tokens are possible, led by the greedy one; device and host get the same', async () => {
  const model = await load({ candidates: '7' });
  const greedy = await tokenOf(model, batch(0, 0, [1, 2, 3]));
  const { logits } = await runStep(model, [batch(1, 0, [1, 2, 3])], { outputRows: [2], wants: want.logits });
  const possible = [...logits!.values.entries()].filter(([, logit]) => Number.isFinite(logit));
  assert.equal(possible.length, 7);
  assert.equal(possible.toSorted(([, a], [, b]) => b - a)[0]![0], greedy);
});

test('a step may take a token that the one before sampled', async () => {
  const model = await load();
  const first = await tokenOf(model, batch(0, 0, [1, 2]));
  const known = await tokenOf(model, batch(0, 2, [first]));
  const again = await load();
  await tokenOf(again, batch(0, 0, [1, 2]));
  assert.equal(await tokenOf(again, batch(0, 2, [-1])), known);
  await assert.rejects(stepTokens(again, [batch(0, 3, [-2])]), /output row 1; the step before had 1/);
});

test('echo, script and ids that end a text', async () => {
  assert.equal(await tokenOf(await load({ mode: 'echo' }), batch(0, 0, [1, 2, 9])), 9);
  assert.equal(await tokenOf(await load({ mode: 'script', script: '5,6' }), batch(0, 0, [1, 2, 9])), 6);
  const ends = await load({ 'eos-tokens': '7', 'eos-chance': '1' });
  assert.equal(await tokenOf(ends, batch(0, 0, [1])), 7);
  const never = await load({ 'eos-tokens': Array.from({ length: 99 }, (_, i) => i).join() });
  for (let first = 0; first < 20; first++) assert.equal(await tokenOf(never, batch(0, 0, [first])), 99);
});

test('a step time makes the device asynchronous and is reported; steps in flight follow each other', async () => {
  const model = await load({ 'step-ms': '20', 'row-us': '500' });
  const startMs = performance.now();
  model.launch(batchOf(model, [batch(0, 0, [1, 2])]));
  const result = model.collect();
  assert.ok(result instanceof Promise);
  assert.equal((await result).computeNs, 21e6);
  assert.ok(performance.now() - startMs >= 19);
});

test('options are checked by name', async () => {
  const code = 'DEVICE_OPTION_INVALID';
  assert.throws(() => openDevice({ speed: '1' }), { code, message: /no option; known: mode, step-ms/ });
  assert.throws(() => openDevice({ 'step-ms': '-1' }), { code, message: /a number from 0/ });
  assert.throws(() => openDevice({ mode: 'random' }), { code, message: /hash, echo or script/ });
  assert.throws(() => openDevice({ mode: 'script' }), { code, message: /list of token ids/ });
  assert.throws(() => openDevice({ 'eos-chance': '0.5' }), { code, message: /eos-tokens/ });
  await assert.rejects(load({ mode: 'script', script: '100' }), { code, message: /size 100/ });
  assert.throws(() => nullModelSource(size).record({ tokens: 1, outputRows: 1 }), {
    code: 'DEVICE_OP_UNSUPPORTED',
  });
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DeviceModel, StepBatch, StepOutput } from '../device.ts';
import { nullModelSource, openDevice } from './index.ts';

const size = { vocabularySize: 100, contextLength: 64 };

async function load(options: Record<string, string> = {}): Promise<DeviceModel> {
  const modelOptions = { slots: 3, batchTokensMax: 32, kvDtype: 'f16' as const, threads: 1 };
  return openDevice(options).load(nullModelSource(size), modelOptions);
}

function batch(slot: number, from: number, tokens: number[], want: StepBatch['want'] = 'greedy'): StepBatch {
  return {
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(tokens, (_, i) => from + i),
    segments: [{ slot, rows: tokens.length, kvLength: from + tokens.length }],
    outputRows: Int32Array.of(tokens.length - 1),
    want,
  };
}

async function tokenOf(model: DeviceModel, step: StepBatch): Promise<number> {
  const { output } = await model.run(step);
  assert.equal(output.kind, 'tokens');
  return (output as Extract<StepOutput, { kind: 'tokens' }>).tokens[0]!;
}

test('a token depends on the whole history and on nothing else', async () => {
  const model = await load();
  const whole = await tokenOf(model, batch(0, 0, [1, 2, 3, 4]));
  await model.run(batch(1, 0, [1, 2]));
  assert.equal(await tokenOf(model, batch(1, 2, [3, 4])), whole, 'chunks make no difference');
  model.copySlot(0, 2, 3);
  assert.equal(await tokenOf(model, batch(2, 3, [4])), whole, 'nor does a copied prefix');
  const others = new Set<number>();
  for (let first = 0; first < 50; first++) others.add(await tokenOf(model, batch(0, 0, [first, 2, 3, 4])));
  assert.ok(others.size > 20, 'another first token makes another answer');
});

test('gaps, released slots and bad rows are found', async () => {
  const model = await load();
  assert.throws(() => model.run(batch(0, 1, [1])), /gap/);
  await model.run(batch(0, 0, [1, 2]));
  assert.throws(() => model.copySlot(0, 1, 3), { code: 'DEVICE_BATCH_INVALID' });
  assert.throws(() => model.run(batch(0, 2, [100])), /vocabulary/);
  assert.throws(() => model.run({ ...batch(0, 2, [1]), outputRows: Int32Array.of(1) }), /output row/);
  assert.throws(() => model.run({ ...batch(0, 2, [1]), positions: Int32Array.of(1) }), /row 0 is at 1/);
  model.releaseSlot(0);
  assert.throws(() => model.run(batch(0, 2, [1])), /gap/);
});

test('candidates are few, distinct, and led by the greedy token', async () => {
  const model = await load({ candidates: '7' });
  const greedy = await tokenOf(model, batch(0, 0, [1, 2, 3]));
  const { output } = await model.run(batch(1, 0, [1, 2, 3], 'logits'));
  assert.ok(output.kind === 'candidates' && output.perRow === 7);
  assert.equal(output.ids[0], greedy);
  assert.equal(new Set(output.ids).size, 7);
  assert.equal(output.logits.indexOf(Math.max(...output.logits)), 0);
});

test('echo, script and ids that end a text', async () => {
  assert.equal(await tokenOf(await load({ mode: 'echo' }), batch(0, 0, [1, 2, 9])), 9);
  assert.equal(await tokenOf(await load({ mode: 'script', script: '5,6' }), batch(0, 0, [1, 2, 9])), 6);
  const ends = await load({ 'eos-tokens': '7', 'eos-chance': '1' });
  assert.equal(await tokenOf(ends, batch(0, 0, [1])), 7);
  const never = await load({ 'eos-tokens': Array.from({ length: 99 }, (_, i) => i).join() });
  for (let first = 0; first < 20; first++) assert.equal(await tokenOf(never, batch(0, 0, [first])), 99);
});

test('a step time makes the device asynchronous and is reported', async () => {
  const model = await load({ 'step-ms': '3', 'row-us': '500' });
  const result = model.run(batch(0, 0, [1, 2]));
  assert.ok(result instanceof Promise);
  assert.ok((await result).computeNs > 2e6);
});

test('options are checked by name', async () => {
  const code = 'DEVICE_OPTION_INVALID';
  assert.throws(() => openDevice({ speed: '1' }), { code, message: /no option; known: mode, step-ms/ });
  assert.throws(() => openDevice({ 'step-ms': '-1' }), { code, message: /a number from 0/ });
  assert.throws(() => openDevice({ mode: 'random' }), { code, message: /hash, echo or script/ });
  assert.throws(() => openDevice({ mode: 'script' }), { code, message: /list of token ids/ });
  assert.throws(() => openDevice({ 'eos-chance': '0.5' }), { code, message: /eos-tokens/ });
  await assert.rejects(load({ mode: 'script', script: '100' }), { code, message: /size 100/ });
  assert.throws(() => nullModelSource(size).record({ tokens: 1, segmentRows: [1], outputRows: 1 }), {
    code: 'DEVICE_OP_UNSUPPORTED',
  });
});

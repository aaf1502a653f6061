import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Device, DeviceModel, DeviceModelOptions } from '../../src/device/device.ts';
import { sharedPath, skipWithout } from '../support/shared.ts';
import { hfGoldens, type MatrixType, sourceOfGguf, sourceOfHuggingFace } from './golden-models.ts';
import {
  greedyTokens,
  loadModel,
  operate,
  operation,
  relativeError,
  stepLogits,
  stepTokens,
} from './steps.ts';
import { tiedSource } from './tied-source.ts';

/** What is asked of a device, in relative L2 error. */
export interface ConformanceOptions {
  openDevice: () => Device | Promise<Device>;
  /** Type of the golden models' matrices on this device, and how far its logits may be from transformers' float32 ones. */
  matrixType: MatrixType;
  logitsTolerance: number;
  /** How far two ways of cutting the same rows into steps may be apart. */
  scheduleTolerance: number;
  kvDtype: DeviceModelOptions['kvDtype'];
  /** Block sizes to run beside whole slots, for a device that pages its KV cache. */
  blockPositions?: readonly number[];
}

const modelOptions = { slots: 3, batchTokensMax: 64, threads: 1 };

/** Registers the suites that every device must pass: transformers' logits, any cut of the rows into steps, greedy text. */
export function conformance(name: string, options: ConformanceOptions): void {
  describe(`${name} device`, () => {
    let folder = '';
    let device: Device;
    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'nereid-conformance-'));
      device = await options.openDevice();
    });
    after(() => {
      device.close();
      rmSync(folder, { recursive: true });
    });
    goldenSuite(options, () => ({ device, folder }));
    for (const blockPositions of options.blockPositions ?? []) {
      blockSuite(options, blockPositions, () => ({ device, folder }));
      hostSuite(options, blockPositions, () => ({ device, folder }));
    }
    tieSuite(options, () => ({ device, folder }));
    greedySuite(options, () => ({ device, folder }));
  });
}

type Setting = () => { device: Device; folder: string };

function goldenSuite(options: ConformanceOptions, setting: Setting): void {
  for (const golden of hfGoldens()) {
    test(`${golden.name}: logits as transformers', however the rows are cut into steps`, async (t) => {
      const { device, folder } = setting();
      const path = join(folder, `${golden.name}.gguf`);
      const source = await sourceOfHuggingFace(golden.folder, path, options.matrixType);
      const model = await loadModel(device, source, { ...modelOptions, kvDtype: options.kvDtype });
      try {
        let worst = 0;
        for (const [index, prompt] of golden.prompts.entries()) {
          const whole = await stepLogits(model, [{ slot: 0, position: 0, tokens: prompt }]);
          const error = relativeError(whole, golden.logits[index]!);
          assert.ok(error < options.logitsTolerance, `prompt ${index}: relative error ${error}`);
          worst = Math.max(worst, error);
          await operate(model, operation('release', 0));
        }
        t.diagnostic(
          `${golden.name}: relative error ${worst.toExponential(1)} of ${options.logitsTolerance} allowed`,
        );
        await checkSchedules(model, golden.prompts.at(-1)!, golden.vocabulary, options.scheduleTolerance);
      } finally {
        model.close();
      }
    });
  }
}

/** Blocks in any order, shared between sequences and copied in part, give what one slot gives. */
function blockSuite(options: ConformanceOptions, blockPositions: number, setting: Setting): void {
  test(`blocks of ${blockPositions}: any order, shared and copied`, async () => {
    const { device, folder } = setting();
    const golden = hfGoldens()[0]!;
    const source = await sourceOfHuggingFace(golden.folder, join(folder, 'blocks.gguf'), options.matrixType);
    const model = await loadModel(device, source, {
      ...modelOptions,
      kvDtype: options.kvDtype,
      blockPositions,
    });
    const prompt = golden.prompts.at(-1)!;
    const expected = golden.logits.at(-1)!.slice(-golden.vocabulary);
    const last = prompt.length - 1;
    const count = Math.ceil(prompt.length / blockPositions);
    // Every other block from the pool's end, so that neither order nor distance is what a slot would have.
    const blocks = Array.from({ length: count }, (_, index) => model.kv.blocks - 1 - 2 * index);
    const check = (what: string, actual: Float32Array) => {
      const error = relativeError(actual, expected);
      assert.ok(error < options.logitsTolerance, `${what}: relative error ${error}`);
    };
    const whole = [{ blocks, position: 0, tokens: prompt }];
    check('in one step', await stepLogits(model, whole, [last]));
    const cut = Math.max(1, prompt.length - 3);
    const at = Math.floor(cut / blockPositions);
    const copy = blocks[at]! - 1;
    const shared = blocks.map((block, index) => (index < at ? block : block - 1));
    await operate(model, operation('copy', blocks[at]!, copy, cut % blockPositions));
    const rest = [{ blocks: shared, position: cut, tokens: prompt.slice(cut) }];
    check('a shared prefix', await stepLogits(model, rest, [last - cut]));
    check(
      'and the source still',
      await stepLogits(model, [{ blocks, position: last, tokens: [prompt[last]!] }]),
    );
    model.close();
  });
}

/** Blocks that went to host memory come back elsewhere as they were, whatever was computed in their place meanwhile. */
function hostSuite(options: ConformanceOptions, blockPositions: number, setting: Setting): void {
  test(`blocks of ${blockPositions}: to host memory and back`, async () => {
    const { device, folder } = setting();
    const golden = hfGoldens()[0]!;
    const source = await sourceOfHuggingFace(golden.folder, join(folder, 'host.gguf'), options.matrixType);
    const prompt = golden.prompts.at(-1)!;
    const last = prompt.length - 1;
    const count = Math.ceil(prompt.length / blockPositions);
    const { kvDtype } = options;
    const settings = { ...modelOptions, kvDtype, blockPositions, hostBlocks: count };
    const model = await loadModel(device, source, settings);
    const blocks = Array.from({ length: count }, (_, index) => index);
    const elsewhere = blocks.map((block) => 2 * count - block);
    await stepLogits(model, [{ blocks, position: 0, tokens: prompt.slice(0, last) }], []);
    for (const block of blocks) await operate(model, operation('toHost', block, count - 1 - block));
    for (const block of blocks) await operate(model, operation('release', block));
    await stepLogits(model, [{ blocks, position: 0, tokens: prompt.slice(0, last).reverse() }], []);
    for (const [index, block] of elsewhere.entries()) {
      await operate(model, operation('fromHost', count - 1 - index, block));
    }
    const tail = [{ blocks: elsewhere, position: last, tokens: [prompt[last]!] }];
    const error = relativeError(
      await stepLogits(model, tail),
      golden.logits.at(-1)!.slice(-golden.vocabulary),
    );
    assert.ok(error < options.logitsTolerance, `relative error ${error}`);
    model.close();
  });
}

/** Of equal logits the lowest id wins, alone and in a batch, whoever picks. */
function tieSuite(options: ConformanceOptions, setting: Setting): void {
  test('ties: the lowest id', async () => {
    const { device, folder } = setting();
    const path = join(folder, 'ties.gguf');
    const source = await tiedSource(path);
    const model = await loadModel(device, source, { ...modelOptions, kvDtype: options.kvDtype });
    const extensions = [0, 1, 2].map((slot) => ({ slot, position: 0, tokens: [slot + 1] }));
    for (const batch of [extensions.slice(0, 1), extensions]) {
      assert.deepEqual(
        await stepTokens(model, batch),
        batch.map(() => 3),
      );
    }
    model.close();
  });
}

/** The last row's logits must not depend on chunking, on neighbours in the batch, or on whether a prefix was copied. */
async function checkSchedules(
  model: DeviceModel,
  prompt: number[],
  vocabulary: number,
  tolerance: number,
): Promise<void> {
  const cut = Math.floor(prompt.length / 2);
  const last = prompt.length - 1;
  const expected = await stepLogits(model, [{ slot: 0, position: 0, tokens: prompt }], [last]);
  const check = (what: string, actual: Float32Array) => {
    const error = relativeError(actual, expected);
    assert.ok(error <= tolerance, `${what}: relative error ${error}`);
  };

  // Slot 1 in chunks, the first of which wants no logits, while slot 0 starts over beside it.
  const none = await stepLogits(model, [{ slot: 1, position: 0, tokens: prompt.slice(0, cut) }], []);
  assert.equal(none.length, 0);
  const other = prompt.slice(0, 5).reverse();
  const beside = await stepLogits(
    model,
    [
      { slot: 0, position: 0, tokens: other },
      { slot: 1, position: cut, tokens: prompt.slice(cut, last) },
    ],
    [2, 4],
  );
  assert.equal(beside.length, 2 * vocabulary);
  const decoded = await stepLogits(
    model,
    [
      { slot: 1, position: last, tokens: [prompt[last]!] },
      { slot: 0, position: other.length, tokens: [7] },
    ],
    [0, 1],
  );
  check('chunks, then one decode row beside another sequence', decoded.slice(0, vocabulary));

  // The first half of slot 1 as a prefix of slot 2; slot 1 goes before slot 2 is read.
  await operate(model, operation('copy', 1, 2, cut));
  await operate(model, operation('release', 1));
  check(
    'copied prefix',
    await stepLogits(model, [{ slot: 2, position: cut, tokens: prompt.slice(cut) }], [last - cut]),
  );

  // Positions may be taken back and written anew.
  await stepLogits(model, [{ slot: 2, position: cut, tokens: [9, 9, 9] }], []);
  check(
    'rewritten tail',
    await stepLogits(model, [{ slot: 2, position: cut, tokens: prompt.slice(cut) }], [last - cut]),
  );
  await operate(model, operation('release', 0));
  await operate(model, operation('release', 2));
}

interface StoriesGolden {
  prompts: { prompt: string; prompt_ids: number[]; greedy_ids: number[] }[];
}

function greedySuite(options: ConformanceOptions, setting: Setting): void {
  const load = async (model: 'stories260K' | 'gpt-nano-sort') => {
    const { device, folder } = setting();
    const source =
      model === 'stories260K'
        ? await sourceOfGguf(sharedPath('models/stories260K/stories260K-f32.gguf'))
        : await sourceOfHuggingFace(
            sharedPath(`models/${model}`),
            join(folder, 'sort.gguf'),
            options.matrixType,
          );
    return loadModel(device, source, { ...modelOptions, kvDtype: options.kvDtype });
  };

  test('stories260K: every greedy token of golden.json', {
    skip: skipWithout('models/stories260K'),
  }, async () => {
    const path = sharedPath('models/stories260K/golden.json');
    const golden = JSON.parse(readFileSync(path, 'utf8')) as StoriesGolden;
    const model = await load('stories260K');
    for (const { prompt, prompt_ids, greedy_ids } of golden.prompts) {
      assert.deepEqual(await greedyTokens(model, prompt_ids, greedy_ids.length), greedy_ids, prompt);
    }
    model.close();
  });

  test('gpt-nano-sort: sorts all 729 inputs', { skip: skipWithout('models/gpt-nano-sort') }, async () => {
    const model = await load('gpt-nano-sort');
    for (let index = 0; index < 3 ** 6; index++) {
      const letters = Array.from({ length: 6 }, (_, place) => Math.floor(index / 3 ** place) % 3);
      assert.deepEqual(await greedyTokens(model, letters, 6), letters.toSorted(), `input ${letters}`);
    }
    model.close();
  });
}

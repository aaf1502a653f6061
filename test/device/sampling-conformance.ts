import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SeededRandom } from '../../src/base/random.ts';
import { openGguf } from '../../src/checkpoint/gguf-reader.ts';
import { writeGguf } from '../../src/checkpoint/gguf-writer.ts';
import type { Device, DeviceModelSource } from '../../src/device/device.ts';
import { openDevice as openReference } from '../../src/device/reference/index.ts';
import { type SamplingStateLoad, type StepOutput, want } from '../../src/device/step.ts';
import { GraphBuilder } from '../../src/graph/builder.ts';
import { encodeFloats } from './golden-models.ts';
import { loadModel, runStep } from './steps.ts';

const vocabularySize = 1003;
const rowsPerStep = 60;
const stepsPerState = 4;
/** A cut may fall between two sums that float32 and float64 round apart; what was said differently then counts differently. */
const differencesMax = 6;

/** A network whose logits are the token's row of a table: both devices choose from the very same numbers. */
async function tableSource(path: string, logit: () => number): Promise<DeviceModelSource> {
  const shape = [vocabularySize, vocabularySize];
  const data = encodeFloats('f32', Float32Array.from({ length: vocabularySize ** 2 }, logit));
  const metadata = [['general.architecture', { type: 'string', value: 'test' }]] as const;
  await writeGguf(path, { metadata, tensors: [{ name: 'table', shape, dtype: 'f32', data }] });
  return {
    record(batchShape) {
      const g = new GraphBuilder();
      const batch = g.batch(batchShape);
      const table = g.weight('table', shape, 'f32');
      return g.finish({ logits: g.rows(g.embedding(table, batch.tokens), batch.outputRows) });
    },
    weights: openGguf(path).tensors,
    kv: { layers: [] },
    vocabularySize,
    contextLength: 128,
  };
}

/** Every other row has a state: loaded in some steps, carried on in those between. */
function stateColumns(random: SeededRandom, step: number) {
  const rows = Array.from({ length: rowsPerStep }, (_, row) => row);
  const isFresh = step % stepsPerState === 0;
  const some = (most: number) =>
    Int32Array.from({ length: random.integer(most + 1) }, () => random.integer(vocabularySize));
  const pick = (...values: number[]) => values[random.integer(values.length)] as number;
  const load = (state: number): SamplingStateLoad => {
    // No token twice: what is added first would matter.
    const biasTokens = Int32Array.from(new Set(some(40)));
    return {
      state,
      repetitionPenalty: pick(1, 1.3, 0.7),
      presencePenalty: pick(0, 0.5),
      frequencyPenalty: pick(0, 0.25),
      ...{ promptTokens: some(300), outputTokens: some(60), bannedTokens: some(20) },
      ...{ biasTokens, biasValues: Float32Array.from(biasTokens, () => 8 * random.next() - 4) },
      banUntilPosition: random.integer(rowsPerStep),
    };
  };
  const stateful = rows.filter((row) => row % 2 === 0);
  return {
    state: Int32Array.from(rows, (row) => (row % 2 === 0 ? row >> 1 : -1)),
    topLogprobs: Int32Array.from(rows, () => pick(0, 1, 5, 20)),
    loads: isFresh ? stateful.map((row) => load(row >> 1)) : [],
  };
}

/** The same rows, ids and values; of tokens chosen from equal logits any. */
function checkLogprobs(own: StepOutput, reference: StepOutput): void {
  const [a, b] = [own.logprobs, reference.logprobs];
  assert.equal(a?.chosen.length, b?.chosen.length);
  assert.equal(a?.perRow, b?.perRow);
  assert.deepEqual([...(a?.ids ?? [])], [...(b?.ids ?? [])]);
  const near = (x: number, y: number) => Math.abs(x - y) < 1e-4 || Object.is(x, y);
  const far = [...(a?.values ?? [])].filter((value, at) => !near(value, b?.values[at] ?? 0));
  assert.deepEqual(far, []);
  const chosen = [...(a?.chosen ?? [])].filter((value, at) => !near(value, b?.chosen[at] ?? 0));
  // As many as tokens may differ.
  assert.ok(chosen.length <= differencesMax, `${chosen.length} log-probabilities of chosen tokens differ`);
}

/** Registers a test of a device's draws against the reference's: the same tokens from the same logits, parameters and keys. */
export function samplingConformance(name: string, openDevice: () => Device | Promise<Device>): void {
  const random = new SeededRandom(11);
  const gaussian = () => Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  const tables: Record<string, () => number> = {
    'plain logits': () => 3 * gaussian(),
    'many equal logits': () => Math.round(2 * gaussian()),
    'logits with banned tokens': () => (random.next() < 0.3 ? Number.NEGATIVE_INFINITY : 4 * gaussian()),
  };
  describe(`${name} device, sampling`, () => {
    for (const [title, logit] of Object.entries(tables)) {
      test(title, async (t) => {
        const folder = mkdtempSync(join(tmpdir(), 'nereid-sampling-'));
        const device = await openDevice();
        try {
          const source = await tableSource(join(folder, 'table.gguf'), logit);
          const settings = { slots: 1, batchTokensMax: 64, threads: 1, kvDtype: 'f32' as const };
          const actual = await loadModel(device, source, settings);
          const expected = await loadModel(openReference(), source, settings);
          let differences = 0;
          for (let step = 0; step < 12; step++) {
            const column = (make: () => number) => Array.from({ length: rowsPerStep }, make);
            const pick = (...values: number[]) => values[random.integer(values.length)] as number;
            const sampling = {
              temperature: Float64Array.from(column(() => pick(0, 0.3, 0.7, 1, 1.7))),
              topK: Int32Array.from(column(() => pick(0, 1, 5, 40, 2000))),
              topP: Float64Array.from(column(() => pick(1, 0.95, 0.5, 0.05))),
              minP: Float64Array.from(column(() => pick(0, 0, 0.01, 0.2))),
              seed: Float64Array.from(column(() => random.integer(2 ** 50))),
              sequence: Int32Array.from(column(() => random.integer(4))),
              ...stateColumns(random, step),
            };
            const tokens = column(() => random.integer(vocabularySize));
            const extensions = [{ slot: 0, position: 0, tokens }];
            const wants = column(() => want.token | (random.next() < 0.3 ? want.logprobs : 0));
            const wishes = { wants, sampling };
            const [own, reference] = [
              await runStep(actual, extensions, wishes),
              await runStep(expected, extensions, wishes),
            ];
            for (let row = 0; row < rowsPerStep; row++)
              if (own.tokens[row] !== reference.tokens[row]) differences++;
            checkLogprobs(own, reference);
          }
          t.diagnostic(`${differences} of ${12 * rowsPerStep} tokens differ`);
          assert.ok(differences <= differencesMax, `${differences} tokens differ`);
          actual.close();
          expected.close();
        } finally {
          device.close();
          rmSync(folder, { recursive: true });
        }
      });
    }
  });
}

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { decodeFloats } from '../../src/checkpoint/floats.ts';
import type { Device, DeviceModel, DeviceModelOptions } from '../../src/device/device.ts';
import { type RowHidden, type StepOutput, want } from '../../src/device/step.ts';
import { type HfGolden, hfGoldens, type MatrixType, sourceOfHuggingFace } from './golden-models.ts';
import { loadModel, operate, operation, relativeError, runStep } from './steps.ts';

/** How near a device comes to transformers' hidden states. */
export interface HiddenConformanceOptions {
  openDevice: () => Device | Promise<Device>;
  matrixType: MatrixType;
  kvDtype: DeviceModelOptions['kvDtype'];
  /** Relative L2 error. */
  tolerance: number;
}

/** Registers tests of the final hidden states, alone and beside logits and tokens, against transformers'. */
export function hiddenConformance(name: string, options: HiddenConformanceOptions): void {
  describe(`${name} device, hidden states`, () => {
    const folder = mkdtempSync(join(tmpdir(), 'nereid-hidden-'));
    after(() => rmSync(folder, { recursive: true }));
    for (const golden of hfGoldens()) {
      test(`${golden.name}: as transformers'`, async () => {
        const device = await options.openDevice();
        const source = await sourceOfHuggingFace(
          golden.folder,
          join(folder, `${golden.name}.gguf`),
          options.matrixType,
        );
        const settings = { slots: 2, batchTokensMax: 64, threads: 1, kvDtype: options.kvDtype };
        const model = await loadModel(device, { ...source, contextLength: 64 }, settings);
        try {
          for (const [index, expected] of hiddenOf(golden, source.hiddenWidth ?? 0).entries()) {
            await checkPrompt(model, golden, index, expected, options.tolerance);
          }
        } finally {
          model.close();
          device.close();
        }
      });
    }
  });
}

/** Each prompt's [length, width]. */
function hiddenOf({ folder, prompts }: HfGolden, width: number): Float32Array[] {
  const all = decodeFloats('f32', readFileSync(join(folder, 'hidden.f32')))!;
  let start = 0;
  const states = prompts.map(({ length }) => {
    const end = start + length * width;
    const own = all.subarray(start, end);
    start = end;
    return own;
  });
  assert.equal(start, all.length, `hidden states of ${width} columns`);
  return states;
}

async function checkPrompt(
  model: DeviceModel,
  golden: HfGolden,
  index: number,
  expected: Float32Array,
  tolerance: number,
): Promise<void> {
  const tokens = golden.prompts[index]!;
  const logits = golden.logits[index]!;
  const width = model.hiddenWidth!;
  const extension = { slot: 0, position: 0, tokens };
  const run = async (outputRows: number[], wants: number[]): Promise<StepOutput> => {
    const output = await runStep(model, [extension], { outputRows, wants });
    const hidden = outputRows.map((_, row) => Boolean(wants[row]! & want.hidden));
    for (const [row, batchRow] of outputRows.entries()) {
      if (hidden[row]) near(stateOf(output.rowHidden!, row, width), rowOf(expected, batchRow, width));
      if (wants[row]! & want.logits) {
        const place = output.logits!.places?.[row] ?? row;
        near(
          rowOf(output.logits!.values, place, golden.vocabulary),
          rowOf(logits, batchRow, golden.vocabulary),
        );
      }
    }
    await operate(model, operation('release', 0));
    return output;
  };
  const near = (actual: Float32Array, wanted: Float32Array): void => {
    const error = relativeError(actual, wanted);
    assert.ok(error <= tolerance, `${golden.name}: relative error ${error}, allowed ${tolerance}`);
  };
  const rows = [...tokens.keys()];
  const last = tokens.length - 1;
  const alone = await run(
    rows,
    rows.map(() => want.hidden),
  );
  assert.equal(alone.logits?.values.length ?? 0, 0, 'nobody asked for logits');
  await run([last], [want.hidden | want.logits]);
  // All kinds of rows in one step: none changes what another gets.
  const kinds = [want.hidden, want.token, want.logits, want.hidden | want.logits, want.hidden | want.token];
  const mixed = rows.map((row) => kinds[row % kinds.length]!);
  const { tokens: chosen } = await run(rows, mixed);
  for (const row of rows.filter((each) => mixed[each]! & want.token)) {
    const own = rowOf(logits, row, golden.vocabulary);
    // Where two are nearly as likely, another kernel may rightly choose the other.
    assert.ok(own[chosen[row]!]! > Math.max(...own) - 0.05, `${golden.name}: the token of row ${row}`);
  }
}

function stateOf({ values, places }: RowHidden, row: number, width: number): Float32Array {
  return rowOf(values, places?.[row] ?? row, width);
}

function rowOf(values: Float32Array, row: number, width: number): Float32Array {
  return values.slice(row * width, (row + 1) * width);
}

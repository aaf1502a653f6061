// A model of random weights on the CUDA device, and steps over it, for the benchmarks of docs/gpu.md.
import { execFileSync } from 'node:child_process';
import type { DeviceModel, DeviceModelSource, WeightTensor } from '../src/device/device.ts';
import { noKvOperations, type StepBatch, type StepResult, want } from '../src/device/step.ts';
import type { DType } from '../src/graph/dtype.ts';
import type { Hyperparameters } from '../src/models/hyperparameters.ts';
import { architectures } from '../src/models/registry.ts';
import { modelSource } from '../src/models/source.ts';
import { modelWeights } from '../src/models/weights.ts';

/** Meta's Llama 3.1 8B, without its rotary scaling (which costs nothing and changes no shape). */
export const llama8b: Hyperparameters = {
  architecture: 'llama',
  layers: 32,
  width: 4096,
  heads: 32,
  kvHeads: 8,
  headDimension: 128,
  feedForwardWidth: 14336,
  vocabularySize: 128256,
  contextLength: 131072,
  normEpsilon: 1e-5,
  rope: { theta: 500000, dimensions: 128 },
  tiedEmbeddings: false,
};

/** A source whose weights the device makes up from a seed. */
export async function randomSource(p: Hyperparameters, dtype: DType, seed = 1): Promise<DeviceModelSource> {
  const architecture = await architectures.load(p.architecture);
  const weights = new Map<string, WeightTensor>();
  for (const { gguf, shape, presence } of modelWeights(architecture, p)) {
    if (presence === 'optional') continue;
    const type = shape.length > 1 ? dtype : 'f32';
    weights.set(gguf, { name: gguf, dtype: type, shape, path: `random:${seed}`, offset: 0, byteLength: 0 });
  }
  return modelSource(architecture, p, weights);
}

/** The clocks, power and temperature that the GPU has now. */
export function clocks(): string {
  const query = '--query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu';
  return execFileSync('nvidia-smi', [query, '--format=csv,noheader'], { encoding: 'utf8' }).trim();
}

/** One sequence's part of a step. */
export interface Part {
  /** First token ids, or −1 − r for what output row r of the step before chose. */
  tokens: readonly number[];
  position: number;
  blocks: readonly number[];
  /** Whether the last row's token is wanted. */
  wants: boolean;
}

let serial = 0;

/** A batch of greedy parts. */
export function batchOf(parts: readonly Part[], wanted: number = want.token): StepBatch {
  const outputs: number[] = [];
  const starts = [0];
  let row = 0;
  for (const part of parts) {
    row += part.tokens.length;
    if (part.wants) outputs.push(row - 1);
    starts.push((starts.at(-1) ?? 0) + part.blocks.length);
  }
  const count = outputs.length;
  return {
    serial: serial++,
    tokens: Int32Array.from(parts.flatMap(({ tokens }) => tokens)),
    positions: Int32Array.from(parts.flatMap(({ tokens, position }) => tokens.map((_, k) => position + k))),
    segments: {
      count: parts.length,
      rows: Int32Array.from(parts, ({ tokens }) => tokens.length),
      kvLength: Int32Array.from(parts, ({ tokens, position }) => position + tokens.length),
      blockStart: Int32Array.from(starts),
      blocks: Int32Array.from(parts.flatMap(({ blocks }) => blocks)),
    },
    outputs: {
      count,
      rows: Int32Array.from(outputs),
      wants: new Uint8Array(count).fill(wanted),
      sampling: {
        temperature: new Float64Array(count),
        topK: new Int32Array(count),
        topP: new Float64Array(count).fill(1),
        minP: new Float64Array(count),
        seed: new Float64Array(count),
        sequence: new Int32Array(count),
        position: new Int32Array(count),
        state: new Int32Array(count).fill(-1),
        topLogprobs: new Int32Array(count),
        loads: [],
      },
    },
    kv: noKvOperations,
  };
}

/** Runs one step and waits for it. */
export async function step(model: DeviceModel, parts: readonly Part[], wanted?: number): Promise<StepResult> {
  model.launch(batchOf(parts, wanted));
  return await model.collect();
}

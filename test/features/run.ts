import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../src/base/entry.ts';
import type { DeviceModelSource } from '../../src/device/device.ts';
import { nullModelSource } from '../../src/device/null/index.ts';
import type { AdapterCache } from '../../src/runtime/adapters/adapter-cache.ts';
import { RuntimeError } from '../../src/runtime/errors.ts';
import { EngineCore, type EngineCoreOptions } from '../../src/runtime/loop/engine-core.ts';
import { type EngineSizes, type LoadedEngine, loadModel } from '../../src/runtime/process/load-model.ts';
import { loadSpeculation } from '../../src/runtime/process/load-speculation.ts';
import type { SequenceEvent } from '../../src/runtime/requests/events.ts';
import type { GenerationRequest } from '../../src/runtime/requests/request.ts';
import { sourceOfHuggingFace } from '../device/golden-models.ts';
import { runToEnd } from '../support/engine-simulator.ts';
import { randomHead } from '../support/random-head.ts';
import { noMishaps, SimulatedFollower, simulatedVocabulary } from '../support/simulated-guides.ts';
import { shownBy } from '../support/simulated-outputs.ts';
import { adapterSettings, openFeatureAdapters } from './adapters.ts';
import type { Feature } from './registry.ts';

/** Where features run: a device, and how its KV cache is laid out. */
export interface Place {
  name: string;
  device: string;
  deviceOptions?: Record<string, string>;
  kvBlockPositions?: number;
}

export const places: readonly Place[] = [
  { name: 'null, blocks', device: 'null', kvBlockPositions: 8 },
  {
    name: 'null, slots, host sampling',
    device: 'null',
    deviceOptions: { sampling: 'host' },
    kvBlockPositions: 64,
  },
  { name: 'reference, blocks', device: 'reference', kvBlockPositions: 16 },
  { name: 'ggml', device: 'ggml' },
];

/** Where there is a GPU: its verdicts are to be those of the reference device, whose blocks it has. */
export const gpuPlace: Place = {
  ...{ name: 'cuda', device: 'cuda', kvBlockPositions: 16 },
  deviceOptions: { activations: 'f32' },
};

/** Guides are about ids, so that they mean the same on every device. */
const guided: Pick<EngineCoreOptions, 'guidance' | 'vocabulary'> = {
  vocabulary: simulatedVocabulary,
  guidance: { start: (data) => new SimulatedFollower(data, noMishaps), lateMaskWaitMs: 0 },
};

const contextLength = 64;
/** Of the small model; the null device takes the same. */
export const vocabularySize = 256;

/** A model on a place, and engines over it, one after the other. */
export class FeatureBench {
  readonly #source: DeviceModelSource;
  readonly #loaded: LoadedEngine;
  readonly #adapters: AdapterCache | undefined;
  readonly #sizes: EngineSizes;
  /** Whether a row's values are the same in every batch, to the last bit. */
  readonly #isExact: boolean;

  private constructor(
    source: DeviceModelSource,
    loaded: LoadedEngine,
    sizes: EngineSizes,
    adapters: AdapterCache | undefined,
  ) {
    this.#source = source;
    this.#adapters = adapters;
    this.#loaded = loaded;
    this.#sizes = sizes;
    this.#isExact = sizes.device === 'null' || sizes.device === 'reference';
  }

  static async open({ device, deviceOptions = {}, kvBlockPositions }: Place): Promise<FeatureBench> {
    const sizes: EngineSizes = {
      ...{ device, deviceOptions, threads: 1, slots: 6, batchTokensMax: 48, kvDtype: 'f32', contextLength },
      ...{ kvBlockPositions, prefixReuse: false, kvPositionsMax: 6 * contextLength },
      adapters: adapterSettings,
    };
    const source =
      device === 'null' ? nullModelSource({ vocabularySize, contextLength }) : await smallModel();
    const loaded = await loadModel('features', source, sizes);
    return new FeatureBench(source, loaded, sizes, await openFeatureAdapters(loaded.model, source));
  }

  /**
   * What an engine with these features says to these requests.
   * @throws RuntimeError where they are refused
   */
  async run(features: readonly Feature[], requests: readonly GenerationRequest[]): Promise<string[]> {
    const { drafter, ...options } = engineOptions(features);
    const draft = drafter === 'draft-head' ? await headOf(this.#source) : this.#source;
    const speculation =
      drafter && (await loadSpeculation({ method: drafter, draftsMax: 4 }, this.#source, draft, this.#sizes));
    const said = new Map<string, { tokens: number[]; shown: string[] }>();
    const failures: SequenceEvent[] = [];
    const { model, options: loaded } = this.#loaded;
    const core = new EngineCore(
      model,
      {
        ...{ ...loaded, ...guided, prefixReuse: false, inFlightStepsMax: 1, ...options },
        speculation,
        adapters: this.#adapters,
      },
      (events) => {
        for (const event of events) {
          const key = `${event.requestId}/${event.sequence}`;
          const shown = shownBy(event).map((row) => (this.#isExact ? row : (row.split(' ')[0] ?? '')));
          const before = said.get(key) ?? { tokens: [], shown: [] };
          before.tokens.push(...event.tokens);
          before.shown.push(...shown);
          said.set(key, before);
          if (event.error) failures.push(event);
        }
      },
    );
    for (const request of requests) core.submit(request);
    await runToEnd(core);
    core.releaseRetained();
    while (core.hasRunnable) await core.step();
    await core.close();
    speculation?.drafter?.close();
    const [failed] = failures;
    if (failed?.error) throw new RuntimeError('ENGINE_FAILED', failed.error.message);
    return [...said]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, { tokens, shown }]) => `${key}: ${tokens.join(' ')} ${shown.join(' ')}`);
  }

  close(): void {
    this.#loaded.model.close();
    this.#loaded.device.close();
  }
}

function engineOptions(features: readonly Feature[]): NonNullable<Feature['engine']> {
  const drafters = features.filter(({ engine }) => engine?.drafter);
  if (drafters.length > 1) {
    throw new RuntimeError(
      'OPTIONS_INVALID',
      'one drafter an engine: give --draft-model or --speculation ngram',
    );
  }
  return Object.assign({}, ...features.map(({ engine }) => engine));
}

/** On the null device, which knows no weights, a head is the model again. */
function headOf(source: DeviceModelSource): Promise<DeviceModelSource> | DeviceModelSource {
  if (source.weights.size === 0) return source;
  head ??= randomHead(join(temporaryFolder(), 'head'), source);
  return head;
}

let head: Promise<DeviceModelSource> | undefined;
let small: Promise<DeviceModelSource> | undefined;

function temporaryFolder(): string {
  const temporary = mkdtempSync(join(tmpdir(), 'nereid-features-'));
  process.once('exit', () => rmSync(temporary, { recursive: true, force: true }));
  return temporary;
}

/** A random Llama of a few thousand parameters: what is said means nothing, but every device says the same. */
function smallModel(): Promise<DeviceModelSource> {
  if (small) return small;
  const folder = join(packageRoot, 'test/goldens/hf/smollm');
  const file = join(temporaryFolder(), 'model.gguf');
  small = sourceOfHuggingFace(folder, file).then((source) => ({ ...source, contextLength }));
  return small;
}

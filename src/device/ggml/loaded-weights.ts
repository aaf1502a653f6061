import { assert } from '../../base/errors.ts';
import { dtypes } from '../../graph/dtype.ts';
import type { Graph, KvSpec } from '../../graph/graph.ts';
import { linearShapes } from '../adapters.ts';
import type {
  DeviceMemory,
  DeviceModelOptions,
  DeviceModelSource,
  KvAbility,
  KvPoolSize,
  LoadedWeights,
} from '../device.ts';
import { DeviceError } from '../errors.ts';
import { hostMemory } from '../host-memory.ts';
import { fuse } from '../passes/fuse.ts';
import { AdapterPool } from './adapter-pool.ts';
import { AdapterRows } from './adapter-rows.ts';
import { ggmlKvType, KvArena, type KvHeads, kvBytes } from './kv-arena.ts';
import type { GgmlLibrary } from './library.ts';
import { temperatureLanes } from './lower-probabilities.ts';
import type { AdapterParts, ModelParts } from './lowering-state.ts';
import { GgmlModel, type GgmlModelSettings } from './model.ts';
import { ModelWeights } from './weights.ts';
import { Workspace } from './workspace.ts';

/** A model's weights in memory, laid out for ggml's kernels. */
export class GgmlLoadedWeights implements LoadedWeights {
  readonly weightBytes: number;
  readonly kv: KvAbility;
  readonly #library: GgmlLibrary;
  readonly #source: DeviceModelSource;
  readonly #options: DeviceModelOptions;
  readonly #settings: GgmlModelSettings;
  readonly #weights: ModelWeights;
  readonly #graph: Graph;
  #model: GgmlModel | undefined;
  #isOpen = true;

  constructor(
    library: GgmlLibrary,
    source: DeviceModelSource,
    options: DeviceModelOptions,
    settings: GgmlModelSettings,
  ) {
    const kvType = ggmlKvType(options.kvDtype);
    this.#library = library;
    this.#source = source;
    this.#options = options;
    this.#settings = settings;
    this.#weights = new ModelWeights(library, source.weights, settings.repack);
    try {
      const fused = fuse(source.record({ tokens: 1, outputRows: 1 }), (names) =>
        this.#weights.canStack(names),
      );
      this.#weights.place(fused.graph, fused.stacked);
      this.#graph = fused.graph;
    } catch (thrown) {
      this.#weights.close();
      throw thrown;
    }
    this.weightBytes = this.#weights.bytes;
    const elements = source.kv.layers.reduce(
      (sum, layer) => sum + layer.keyElements + layer.valueElements,
      0,
    );
    this.kv = {
      bytesPerPosition: kvBytes(kvType, elements),
      layout: 'slots',
      blockPositions: source.contextLength,
    };
  }

  memory(): DeviceMemory {
    return hostMemory();
  }

  allocateKv({ blocks, blockPositions, hostBlocks }: KvPoolSize): GgmlModel {
    assert(!this.#model, 'one KV cache a model');
    const { contextLength } = this.#source;
    if (blockPositions < contextLength || hostBlocks > 0) {
      throw new DeviceError(
        'DEVICE_OPTION_INVALID',
        `the ggml device keeps each sequence's KV in one slot of ${contextLength} positions; it has no blocks of ${blockPositions} ` +
          'and no host tier: leave the KV block size and the host cache size out',
      );
    }
    const closers: { close(): void }[] = [];
    const opened = <T extends { close(): void }>(part: T): T => {
      closers.push(part);
      return part;
    };
    try {
      const parts = this.#parts(blocks, opened);
      this.#model = new GgmlModel(parts, this.#source, { ...this.#options, blocks }, this.#settings.poll);
      for (const part of closers) this.#model.owns(part);
      return this.#model;
    } catch (thrown) {
      for (const part of closers.reverse()) part.close();
      throw thrown;
    }
  }

  #parts(slots: number, opened: <T extends { close(): void }>(part: T) => T): ModelParts {
    const { contextLength, vocabularySize, kv: spec } = this.#source;
    const { batchTokensMax } = this.#options;
    const kvType = ggmlKvType(this.#options.kvDtype);
    const heads = headsOf(this.#graph, spec);
    const kv = opened(new KvArena(this.#library, spec, heads, { slots, contextLength, dtype: kvType }));
    const windows = [...new Set(spec.layers.map((layer) => layer.window))];
    const workspace = opened(
      new Workspace(this.#library, {
        batchTokensMax,
        contextLength,
        rowClasses: kv.rowClasses,
        windowClasses: windows.length,
        temperatureLanes: temperatureLanes(vocabularySize),
        extendedWidths: this.#weights.extendedWidths,
        attentionWidths: attentionWidths(this.#graph),
        ...exchangedSizes(this.#graph, Math.min(batchTokensMax, contextLength, slots)),
      }),
    );
    return {
      library: this.#library,
      weights: this.#weights,
      workspace,
      kv,
      windows,
      kvTypeId: dtypes[kvType].ggmlId,
      vocabularySize,
      adapters: this.#adapters(opened),
    };
  }

  #adapters(opened: <T extends { close(): void }>(part: T) => T): AdapterParts | undefined {
    const { adapters: room, batchTokensMax, collective } = this.#options;
    if (!room || collective) return undefined;
    const pool = opened(new AdapterPool(this.#library, room, linearShapes(this.#graph)));
    return { pool, rows: opened(new AdapterRows(this.#library, pool, batchTokensMax)) };
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#model?.close();
    this.#weights.close();
  }
}

/** The heads of each KV layer, from the attention op that uses it. */
function headsOf(graph: Graph, spec: KvSpec): KvHeads[] {
  return spec.layers.map((layer, index) => {
    const node = graph.nodes.find((other) => other.op === 'attention' && other.attributes.layer === index);
    assert(node?.op === 'attention', `KV layer ${index} has an attention op`);
    const { kvHeads, headDimension, valueHeadDimension } = node.attributes;
    const fits =
      layer.keyElements === kvHeads * headDimension && layer.valueElements === kvHeads * valueHeadDimension;
    assert(fits, `KV layer ${index} keeps what its attention op reads`);
    return { kvHeads, headDimension, valueHeadDimension };
  });
}

/** What crosses between ranks: what a stage is handed, and the rows that are gathered. */
function exchangedSizes(graph: Graph, rowsMax: number) {
  const hidden = graph.nodes.find((node) => node.op === 'input' && node.attributes.name === 'hidden');
  const gather = graph.nodes.find((node) => node.op === 'allGather');
  return {
    hiddenWidth: hidden?.shape[1] ?? 0,
    gatheredWidth: gather?.shape[1] ?? 0,
    gatheredRows: rowsMax,
  };
}

function attentionWidths(graph: Graph): number[] {
  const widths = graph.nodes.flatMap((node) =>
    node.op === 'attention' ? [node.attributes.heads * node.attributes.valueHeadDimension] : [],
  );
  return [...new Set(widths)];
}

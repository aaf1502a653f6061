import koffi from 'koffi';
import { assert, definite } from '../../base/errors.ts';
import { DeviceError } from '../errors.ts';
import type { FusedGraph } from '../passes/fuse.ts';
import { probabilityBlock, type RowProbabilities, type SegmentTable } from '../step.ts';
import type { ComputeGraph, Context, GraphAllocator, Tensor } from './handles.ts';
import type { KvLayerLayout } from './kv-arena.ts';
import { lowerGraph } from './lower-graph.ts';
import { lowerProbabilities, type ProbabilityTensors } from './lower-probabilities.ts';
import {
  type AdapterTensor,
  type ExecutableShape,
  type KvViews,
  LoweringState,
  type ModelParts,
} from './lowering-state.ts';
import { MemoryMap } from './memory.ts';
import { cutBytes, cutGraph, type Piece } from './pieces.ts';
import { readMember, tensorOffsets } from './tensor-struct.ts';

/** ggml ops that one graph node or one segment's attention may become, with views. */
const opsPerNode = 8;
const opsPerAttention = 8;
/** Of each part of a linear that adapters change, for the groups and for each segment that is multiplied alone. */
const opsPerAdapter = 10;
const wordsPerUnit = 2 ** 32;

/** What a graph makes beside each output row's logits. */
export interface GraphEnd {
  /** Its likeliest token: the last of several that are equally likely. */
  argmax: boolean;
  probabilities: boolean;
}

interface Ends {
  hidden?: Tensor;
  logits?: Tensor;
  picked?: Tensor;
  probabilities?: ProbabilityTensors;
}

/** Where one attention view's moving members lie, in 32-bit words of the executable's memory. */
interface MovingView {
  layout: KvLayerLayout;
  keysData: number;
  keysLength: number;
  valuesData: number;
  valuesLength: number;
}

interface MovingMask {
  windowClass: number;
  data: number;
  length: number;
  stride: number;
}

/** Where a matrix tensor's address lies, and what it is counted from. */
interface MovingMatrix {
  data: number;
  address: number;
  placeBytes: number;
  segment: number | undefined;
}

interface MovingSegment {
  rows: number;
  views: MovingView[];
  masks: MovingMask[];
}

const halfZero = 0;
const halfMinusInfinity = 0xfc00;

/**
 * A graph recorded and laid out for one batch shape. It serves any slots and any KV lengths: before each run the tensor headers of the attention
 * views are pointed at the step's slots by writing their `data` and `ne`, so a steady decode step records nothing.
 */
export class Executable {
  readonly target: ComputeGraph;
  /** Address of the [R, vocabulary] logits; 0 for a step without output rows. */
  readonly logitsAddress: number;
  /** Address of the [R] likeliest tokens; 0 unless the graph picks them. */
  readonly tokensAddress: number;
  /** Address of the [R, vocabulary] probabilities and of their block sums; 0 unless the graph makes them. */
  readonly probabilitiesAddress: number;
  readonly blockSumsAddress: number;
  /** Address of the [T, width] residual stream or of the [R, width] final hidden states; 0 unless the graph ends in it. */
  readonly hiddenAddress: number;
  /** What is computed, piece after piece; one alone unless the graph waits for other ranks. */
  readonly pieces: readonly Piece[];
  readonly nodeCount: number;
  readonly #parts: ModelParts;
  readonly #memory: MemoryMap;
  readonly #context: Context;
  readonly #words: Uint32Array;
  readonly #segments: MovingSegment[];
  readonly #matrices: MovingMatrix[];
  /** By address: made once, since V8 counts every view's megabytes as fresh memory to collect. */
  readonly #floats = new Map<number, Float32Array>();

  constructor(
    parts: ModelParts,
    fused: FusedGraph,
    shape: ExecutableShape,
    allocator: GraphAllocator,
    end: GraphEnd,
  ) {
    this.#parts = parts;
    const { ggml } = parts.library;
    const attentions = fused.graph.nodes.filter((node) => node.op === 'attention').length;
    const opsMax =
      64 +
      fused.graph.nodes.length * opsPerNode +
      attentions * shape.segmentRows.length * opsPerAttention +
      adapterOps(fused, shape);
    const exchanges = fused.graph.nodes.filter((node) => node.op === 'allReduce' || node.op === 'allGather');
    const bytes =
      cutBytes(ggml, exchanges.length, opsMax) +
      opsMax * ggml.ggml_tensor_overhead() +
      ggml.ggml_graph_overhead_custom(opsMax, false) +
      4096;
    // Sparse memory: only what the recording really takes becomes resident.
    this.#memory = MemoryMap.anonymous(bytes, 'a recorded graph');
    this.#context = ggml.ggml_init({
      mem_size: bytes,
      mem_buffer: BigInt(this.#memory.address),
      no_alloc: true,
    });
    this.target = ggml.ggml_new_graph_custom(this.#context, opsMax, false);
    const state = new LoweringState(parts, this.#context, this.target, fused, shape);
    let ends: Ends;
    try {
      ends = this.#layOut(state, allocator, end);
    } catch (thrown) {
      this.close();
      throw thrown;
    }
    this.nodeCount = ggml.ggml_graph_n_nodes(this.target);
    const addressOf = (tensor: Tensor | undefined) =>
      tensor ? Number(readMember(tensor, tensorOffsets.data)) : 0;
    this.logitsAddress = addressOf(ends.logits);
    this.tokensAddress = addressOf(ends.picked);
    this.probabilitiesAddress = addressOf(ends.probabilities?.values);
    this.blockSumsAddress = addressOf(ends.probabilities?.blockSums);
    this.hiddenAddress = addressOf(ends.hidden);
    const viewOf = (tensor: Tensor, elements: number) => this.#floatsAt(addressOf(tensor), elements);
    this.pieces = cutGraph(ggml, this.#context, this.target, state.exchanges, viewOf);
    this.#words = new Uint32Array(this.#memory.view(0, this.#memory.bytes));
    this.#matrices = state.adapterTensors.map((matrix) => this.#movingMatrix(matrix));
    this.#segments = state.segments.map((segment) => ({
      rows: segment.rows,
      views: segment.views.map((views) => this.#movingView(views)),
      masks: segment.masks.flatMap((mask, windowClass) =>
        mask ? [this.#movingMask(mask, windowClass)] : [],
      ),
    }));
  }

  /** Records the graph and gives its tensors their addresses. */
  #layOut(state: LoweringState, allocator: GraphAllocator, end: GraphEnd): Ends {
    const { ggml } = this.#parts.library;
    const outputs = lowerGraph(state);
    const logits = outputs.get('logits');
    const hidden = outputs.get('hidden');
    const picked = end.argmax && logits ? state.expand(ggml.ggml_argmax(this.#context, logits)) : undefined;
    if (picked) ggml.ggml_set_output(picked);
    const probabilities =
      end.probabilities && logits ? lowerProbabilities(state, logits, this.#parts.vocabularySize) : undefined;
    if (!ggml.ggml_gallocr_alloc_graph(allocator, this.target)) {
      const problem = `no room for the activations of ${state.shape.tokens} tokens`;
      throw new DeviceError('DEVICE_OUT_OF_MEMORY', `${problem}: use fewer batch tokens`);
    }
    return {
      ...(hidden && { hidden }),
      ...(logits && { logits }),
      ...(picked && { picked }),
      ...(probabilities && { probabilities }),
    };
  }

  #wordAt(tensor: Tensor, offset: number): number {
    return (Number(tensor) - this.#memory.address + offset) / 4;
  }

  #movingView({ layer, keys, values }: KvViews): MovingView {
    return {
      layout: definite(this.#parts.kv.layers[layer], 'a KV layer'),
      keysData: this.#wordAt(keys, tensorOffsets.data),
      keysLength: this.#wordAt(keys, tensorOffsets.ne + 8),
      valuesData: this.#wordAt(values, tensorOffsets.data),
      valuesLength: this.#wordAt(values, tensorOffsets.ne + 8),
    };
  }

  #movingMatrix({ tensor, address, placeBytes, segment }: AdapterTensor): MovingMatrix {
    return { data: this.#wordAt(tensor, tensorOffsets.data), address, placeBytes, segment };
  }

  /** Whether any linear's product is changed by adapters. */
  get usesAdapters(): boolean {
    return this.#matrices.length > 0;
  }

  #movingMask(mask: Tensor, windowClass: number): MovingMask {
    return {
      windowClass,
      data: this.#wordAt(mask, tensorOffsets.data),
      length: this.#wordAt(mask, tensorOffsets.ne),
      stride: this.#wordAt(mask, tensorOffsets.nb + 8),
    };
  }

  /** Points every attention view at the step's slots and writes its masks. */
  bind(segments: SegmentTable): void {
    const { kv, workspace } = this.#parts;
    let maskElements = 0;
    for (let index = 0; index < this.#segments.length; index++) {
      const moving = this.#segments[index] as MovingSegment;
      const kvLength = segments.kvLength[index] as number;
      const slotAddress = kv.address + slotOf(segments, index) * kv.slotBytes;
      for (const view of moving.views) this.#pointView(view, slotAddress, kvLength, moving.rows);
      for (const mask of moving.masks) {
        const window = this.#parts.windows[mask.windowClass];
        maskElements += this.#writeMask(mask, maskElements, kvLength, moving.rows, window);
      }
    }
    workspace.noteMaskElements(maskElements);
    if (this.#matrices.length > 0) this.#pointMatrices(segments);
  }

  /** Points the matrices at the places of the step's adapters. */
  #pointMatrices({ adapter }: SegmentTable): void {
    const { pool, rows } = definite(this.#parts.adapters, 'adapters');
    const words = this.#words;
    for (const { data, address, placeBytes, segment } of this.#matrices) {
      const place = segment === undefined ? rows.firstPlace : pool.placeOf(adapter?.[segment] as number);
      const target = address + place * placeBytes;
      words[data] = target % wordsPerUnit;
      words[data + 1] = target / wordsPerUnit;
    }
  }

  #pointView(view: MovingView, slotAddress: number, kvLength: number, rows: number): void {
    const words = this.#words;
    const { layout } = view;
    const start = firstVisible(kvLength, rows, layout.window);
    const keys = slotAddress + layout.offset + start * layout.rowBytes;
    const values = keys + layout.valueOffset;
    words[view.keysData] = keys % wordsPerUnit;
    words[view.keysData + 1] = keys / wordsPerUnit;
    words[view.valuesData] = values % wordsPerUnit;
    words[view.valuesData + 1] = values / wordsPerUnit;
    words[view.keysLength] = kvLength - start;
    words[view.valuesLength] = kvLength - start;
  }

  /** @returns the elements that the mask takes */
  #writeMask(
    mask: MovingMask,
    offset: number,
    kvLength: number,
    rows: number,
    window: number | undefined,
  ): number {
    const { workspace } = this.#parts;
    const start = firstVisible(kvLength, rows, window);
    const length = kvLength - start;
    const words = this.#words;
    const address = workspace.maskAddress(offset);
    words[mask.data] = address % wordsPerUnit;
    words[mask.data + 1] = address / wordsPerUnit;
    words[mask.length] = length;
    words[mask.stride] = length * 2;
    words[mask.stride + 2] = length * 2 * rows;
    words[mask.stride + 4] = length * 2 * rows;
    for (let row = 0; row < rows; row++) {
      const at = offset + row * length;
      const position = kvLength - rows + row;
      const from = window === undefined ? 0 : Math.max(0, position - window + 1 - start);
      const to = position - start + 1;
      workspace.masks.fill(halfMinusInfinity, at, at + from);
      workspace.masks.fill(halfZero, at + from, at + to);
      workspace.masks.fill(halfMinusInfinity, at + to, at + length);
    }
    return rows * length;
  }

  get picksTokens(): boolean {
    return this.tokensAddress !== 0;
  }

  get makesProbabilities(): boolean {
    return this.probabilitiesAddress !== 0;
  }

  /** [rows, vocabulary] logits as the last run left them. */
  logits(rows: number, vocabularySize: number): Float32Array {
    assert(this.logitsAddress !== 0, 'a step with output rows');
    return this.#floatsAt(this.logitsAddress, rows * vocabularySize);
  }

  /** What the last run made of [rows, vocabulary] logits. */
  probabilities(rows: number, vocabularySize: number): RowProbabilities {
    assert(this.probabilitiesAddress !== 0, 'a step that makes probabilities');
    const blocks = Math.floor(vocabularySize / probabilityBlock);
    return {
      values: this.#floatsAt(this.probabilitiesAddress, rows * vocabularySize),
      blockSums: blocks === 0 ? new Float32Array(0) : this.#floatsAt(this.blockSumsAddress, rows * blocks),
    };
  }

  /** [rows, width] residual stream, or final hidden states, as the last run left them. */
  hidden(rows: number, width: number): Float32Array {
    assert(this.hiddenAddress !== 0, 'a step that gives hidden states');
    return this.#floatsAt(this.hiddenAddress, rows * width);
  }

  /** [rows] tokens that the last run picked. */
  tokens(rows: number): Int32Array {
    assert(this.tokensAddress !== 0, 'a step that picks tokens');
    return new Int32Array(koffi.view(BigInt(this.tokensAddress), rows * 4), 0, rows);
  }

  #floatsAt(address: number, elements: number): Float32Array {
    const known = this.#floats.get(address);
    if (known?.length === elements) return known;
    const view = new Float32Array(koffi.view(BigInt(address), elements * 4), 0, elements);
    this.#floats.set(address, view);
    return view;
  }

  close(): void {
    this.#parts.library.ggml.ggml_free(this.#context);
    this.#memory.close();
  }
}

function adapterOps({ graph }: FusedGraph, { adapters }: ExecutableShape): number {
  if (!adapters) return 0;
  let parts = 0;
  for (const node of graph.nodes) if (node.op === 'linear') parts += node.attributes.parts.length + 1;
  return parts * opsPerAdapter * (1 + adapters.alone.length);
}

/** A slot is a sequence's one block. */
export function slotOf({ blockStart, blocks }: SegmentTable, index: number): number {
  return blocks[blockStart[index] as number] as number;
}

/** The first position that any of the last `rows` queries sees: earlier ones need not be walked. */
function firstVisible(kvLength: number, rows: number, window: number | undefined): number {
  return window === undefined ? 0 : Math.max(0, kvLength - rows - window + 1);
}

import { definite } from '../../base/errors.ts';
import { DeviceError } from '../errors.ts';
import { probabilityBlock } from '../step.ts';
import { extensionColumns, extensionSums } from './extension.ts';
import type { Buffer, Context, Tensor } from './handles.ts';
import type { KvRowClass } from './kv-arena.ts';
import type { GgmlLibrary } from './library.ts';
import { MemoryMap } from './memory.ts';

const alignmentBytes = 64;
/** Masks of one step; a typed array can hold no more. */
const maskBytesMax = 4 * 1024 ** 3;
/** Mask memory that stays resident between steps. */
const maskBytesKept = 16 * 1024 * 1024;

/** What the workspace must have room for. */
export interface WorkspaceSizes {
  batchTokensMax: number;
  contextLength: number;
  /** Each has its own row indices, one a token and head. */
  rowClasses: readonly KvRowClass[];
  /** Distinct attention windows (no window is one of them): each has its own masks. */
  windowClasses: number;
  /** Equal copies of a row's 1 / temperature (see `temperatureLanes`). */
  temperatureLanes: number;
  /** Input widths of extended matrices (see `extension.ts`). */
  extendedWidths: readonly number[];
  /** Widths of attention's results, each once. */
  attentionWidths: readonly number[];
  /** Columns of the residual stream that a pipeline stage is handed; 0 for none. */
  hiddenWidth: number;
  /** Columns of rows that are gathered from all ranks, and how many; 0 for none. */
  gatheredWidth: number;
  gatheredRows: number;
}

/** Inputs wide enough for an extended matrix: [batchTokensMax, width + extra] float32, block sums behind the inputs. */
export interface ExtendedInput {
  address: number;
  rowBytes: number;
  width: number;
  columns: number;
}

/**
 * Memory at fixed addresses that every executable of a model shares: what a step's inputs are written to, and activations that one op
 * writes and the next one reads. Steps never overlap, so neither do their uses.
 */
export class Workspace {
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  readonly outputRows: Int32Array;
  readonly logitRows: Int32Array;
  /** [batchTokensMax, temperatureLanes]. */
  readonly inverseTemperatures: Float32Array;
  readonly temperatureLanes: number;
  /** By row class: KV rows that the step writes, as pairs of 32-bit words (ggml takes i64). */
  readonly rowIndices: readonly Uint32Array[];
  readonly masks: Uint16Array;
  /** [batchTokensMax, hiddenWidth]. */
  readonly hidden: Float32Array;
  readonly buffer: Buffer;
  readonly #library: GgmlLibrary;
  readonly #map: MemoryMap;
  readonly #offsets: {
    tokens: number;
    positions: number;
    outputRows: number;
    logitRows: number;
    inverseTemperatures: number;
    ones: number;
    indices: number[];
    sums: [number, number];
    masks: number;
    hidden: number;
    gathered: number;
  };
  readonly #hiddenWidth: number;
  readonly #extended = new Map<number, ExtendedInput>();
  readonly #joined = new Map<number, number>();
  #maskBytesUsed = 0;

  constructor(library: GgmlLibrary, sizes: WorkspaceSizes) {
    const { batchTokensMax, rowClasses, temperatureLanes, extendedWidths } = sizes;
    this.#library = library;
    this.temperatureLanes = temperatureLanes;
    this.#hiddenWidth = sizes.hiddenWidth;
    let end = 0;
    const take = (bytes: number) => {
      const start = end;
      end += Math.ceil(bytes / alignmentBytes) * alignmentBytes;
      return start;
    };
    const maskBytes = checkedMaskBytes(sizes);
    const sums = [extensionSums(1), extensionSums(2)] as const;
    this.#offsets = {
      tokens: take(batchTokensMax * 4),
      positions: take(batchTokensMax * 4),
      outputRows: take(batchTokensMax * 4),
      logitRows: take(batchTokensMax * 4),
      inverseTemperatures: take(batchTokensMax * temperatureLanes * 4),
      ones: take(batchTokensMax * probabilityBlock * 4),
      indices: rowClasses.map(({ kvHeads }) => take(batchTokensMax * kvHeads * 8)),
      sums: [take(sums[0].byteLength), take(sums[1].byteLength)],
      masks: take(maskBytes),
      hidden: take(sizes.hiddenWidth * batchTokensMax * 4),
      gathered: take(sizes.gatheredWidth * sizes.gatheredRows * 4),
    };
    const extended = extendedWidths.map((width) => {
      const columns = width + extensionColumns(width);
      return { width, columns, rowBytes: columns * 4, offset: take(columns * 4 * batchTokensMax) };
    });
    const joined = sizes.attentionWidths.map((width) => [width, take(width * 4 * batchTokensMax)] as const);
    this.#map = MemoryMap.anonymous(end, `the workspace of ${batchTokensMax} tokens a step`);
    this.buffer = library.ggml.ggml_backend_cpu_buffer_from_ptr(BigInt(this.#map.address), this.#map.bytes);
    for (const { width, columns, rowBytes, offset } of extended) {
      this.#extended.set(width, { address: this.#map.address + offset, rowBytes, width, columns });
    }
    for (const [width, offset] of joined) this.#joined.set(width, this.#map.address + offset);
    const ints = (offset: number) => new Int32Array(this.#map.view(offset, batchTokensMax * 4));
    this.tokens = ints(this.#offsets.tokens);
    this.positions = ints(this.#offsets.positions);
    this.outputRows = ints(this.#offsets.outputRows);
    this.logitRows = ints(this.#offsets.logitRows);
    const floats = (offset: number, elements: number) =>
      new Float32Array(this.#map.view(offset, elements * 4));
    this.inverseTemperatures = floats(this.#offsets.inverseTemperatures, batchTokensMax * temperatureLanes);
    floats(this.#offsets.ones, batchTokensMax * probabilityBlock).fill(1);
    this.rowIndices = rowClasses.map(({ kvHeads }, index) => {
      const offset = definite(this.#offsets.indices[index], 'row indices');
      return new Uint32Array(this.#map.view(offset, batchTokensMax * kvHeads * 8));
    });
    this.hidden = floats(this.#offsets.hidden, sizes.hiddenWidth * batchTokensMax);
    this.masks = new Uint16Array(this.#map.view(this.#offsets.masks, maskBytes));
    sums.forEach((matrix, index) => {
      const offset = this.#offsets.sums[index as 0 | 1];
      new Float32Array(this.#map.view(offset, matrix.byteLength)).set(matrix);
    });
  }

  extendedInput(width: number): ExtendedInput | undefined {
    return this.#extended.get(width);
  }

  /** Where results of attention of this width are gathered: [batchTokensMax, width] float32. */
  joinedAddress(width: number): number | undefined {
    return this.#joined.get(width);
  }

  /** A batch input by its graph name, as a tensor of `rows` i32. */
  input(context: Context, name: string, rows: number): Tensor | undefined {
    const offset = {
      tokens: this.#offsets.tokens,
      positions: this.#offsets.positions,
      outputRows: this.#offsets.outputRows,
      logitRows: this.#offsets.logitRows,
    }[name];
    if (offset === undefined) return undefined;
    return this.place(
      this.#library.ggml.ggml_new_tensor_1d(context, int32Type, rows),
      this.#map.address + offset,
    );
  }

  /** What the stage before handed on: [rows, hiddenWidth] float32. */
  hiddenInput(context: Context, rows: number): Tensor {
    const tensor = this.#library.ggml.ggml_new_tensor_2d(context, float32Type, this.#hiddenWidth, rows);
    return this.place(tensor, this.#map.address + this.#offsets.hidden);
  }

  /** Where rows of all ranks are joined: [rows, width] float32. */
  gathered(context: Context, rows: number, width: number): Tensor {
    const tensor = this.#library.ggml.ggml_new_tensor_2d(context, float32Type, width, rows);
    return this.place(tensor, this.#map.address + this.#offsets.gathered);
  }

  /** The KV rows that the step writes, in one row class: [rows, 1, kvHeads] i64. */
  indices(context: Context, rowClass: number, kvHeads: number, rows: number): Tensor {
    const offset = this.#offsets.indices[rowClass] ?? 0;
    const tensor = this.#library.ggml.ggml_new_tensor_3d(context, int64Type, kvHeads, 1, rows);
    return this.place(tensor, this.#map.address + offset);
  }

  /** The matrix of block sums (see `extensionSums`). */
  sums(context: Context, groupBlocks: 1 | 2): Tensor {
    const tensor = this.#library.ggml.ggml_new_tensor_2d(
      context,
      float32Type,
      32 * groupBlocks,
      2 * groupBlocks,
    );
    return this.place(tensor, this.#map.address + this.#offsets.sums[groupBlocks === 1 ? 0 : 1]);
  }

  /** What the step multiplies its logits by: [rows, temperatureLanes] float32. */
  inverseTemperatureInput(context: Context, rows: number): Tensor {
    const { ggml } = this.#library;
    const tensor = ggml.ggml_new_tensor_2d(context, float32Type, this.temperatureLanes, rows);
    return this.place(tensor, this.#map.address + this.#offsets.inverseTemperatures);
  }

  /** Ones that sum a block: [rows, 1, probabilityBlock] float32. */
  onesInput(context: Context, rows: number): Tensor {
    const { ggml } = this.#library;
    const tensor = ggml.ggml_new_tensor_3d(context, float32Type, probabilityBlock, 1, rows);
    return this.place(tensor, this.#map.address + this.#offsets.ones);
  }

  maskAddress(element: number): number {
    return this.#map.address + this.#offsets.masks + element * 2;
  }

  /** Gives a tensor an address in this workspace. */
  place(tensor: Tensor, address: number): Tensor {
    this.#library.ggml.ggml_backend_tensor_alloc(this.buffer, tensor, BigInt(address));
    return tensor;
  }

  /** Says how much of the masks a step used, so that a long prefill does not keep its memory for ever. */
  noteMaskElements(elements: number): void {
    if (elements * 2 > this.#maskBytesUsed) this.#maskBytesUsed = elements * 2;
    else if (this.#maskBytesUsed > maskBytesKept && elements === 0) {
      this.#map.discard(this.#offsets.masks, this.#maskBytesUsed);
      this.#maskBytesUsed = 0;
    }
  }

  close(): void {
    this.#library.ggml.ggml_backend_buffer_free(this.buffer);
    this.#map.close();
  }
}

const float32Type = 0;
const int32Type = 26;
const int64Type = 27;

/** @throws DeviceError for masks that no typed array can hold */
function checkedMaskBytes({ batchTokensMax, contextLength, windowClasses }: WorkspaceSizes): number {
  const bytes = batchTokensMax * contextLength * windowClasses * 2;
  if (bytes <= maskBytesMax) return bytes;
  const problem = `attention masks of ${batchTokensMax} rows by ${contextLength} positions take ${bytes} bytes`;
  throw new DeviceError('DEVICE_OUT_OF_MEMORY', `${problem}: use fewer batch tokens or a shorter context`);
}

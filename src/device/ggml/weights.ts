import { definite } from '../../base/errors.ts';
import { bf16ToF32, f16ToF32 } from '../../base/half.ts';
import { type DType, dtypes, rowBytes } from '../../graph/dtype.ts';
import type { Graph } from '../../graph/graph.ts';
import type { WeightTensor } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { StackedWeights } from '../passes/fuse.ts';
import { extendQ41, extensionColumns } from './extension.ts';
import type { Buffer, BufferType, Context, Tensor } from './handles.ts';
import type { GgmlLibrary } from './library.ts';
import { MemoryMap } from './memory.ts';
import { supportsProduct } from './supports.ts';

/** A weight as kernels read it. */
export interface PlacedWeight {
  tensor: Tensor;
  /** Columns that the matrix has beyond the weight's own, which want block sums as inputs (see `extension.ts`); 0 for none. */
  extraColumns: number;
  /** Steps of up to so many rows are faster through ggml's vector kernel than through its matrix kernel; 1 where there is no choice. */
  vectorRowsMax: number;
}

/**
 * Rows up to which dot products beat llamafile's small matrix kernels, which plain memory gets otherwise (`bench/device-matmul.ts`; Zen 5,
 * two threads: Q8_0 at 4 rows takes 10.5 instead of 15.1 ms, f16 at 8 rows 15.8 instead of 20.9).
 */
const vectorRowsMax: Partial<Record<DType, number>> = { f32: 16, f16: 12, bf16: 12, q8_0: 8 };

/** How a graph uses a weight: as the matrix of a linear, as an embedding table, or as a vector (norms, biases, rope factors). */
export type WeightUse = 'matrix' | 'table' | 'vector';

/** What a linear's weight becomes. */
type Placement =
  /** Used in the file's mapping. */
  | { kind: 'mapped' }
  /** Copied, since rows of several tensors are stacked. */
  | { kind: 'copied' }
  /** In a buffer type that stores it in its kernels' order. */
  | { kind: 'repacked'; bufferType: BufferType }
  /** Q4_1 as extended Q4_0, repacked. */
  | { kind: 'extended'; bufferType: BufferType };

interface Job {
  name: string;
  parts: readonly WeightTensor[];
  placement: Placement;
  tensor: Tensor;
  extraColumns: number;
}

const alignmentBytes = 64;
const usageWeights = 1;
const quantizedRowsMultiple = 8;

/** A stacked matrix that is copied only to be stacked: beyond this size, streaming it dwarfs the op that stacking saves. */
const stackedCopyBytesMax = 4 * 1024 * 1024;

/** Counts by placement, for `describe` and logs. */
export type PlacementBytes = Record<Placement['kind'], number>;

/**
 * All weights of one model. Files are mapped, and weights used in place; where another order is faster (`CPU_REPACK`) or rows of several
 * tensors are stacked they are copied, and the mapping's pages given back.
 */
export class ModelWeights {
  readonly placementBytes: PlacementBytes = { mapped: 0, copied: 0, repacked: 0, extended: 0 };
  readonly #library: GgmlLibrary;
  readonly #source: ReadonlyMap<string, WeightTensor>;
  readonly #context: Context;
  readonly #maps = new Map<string, { map: MemoryMap; buffer: Buffer }>();
  readonly #buffers: Buffer[] = [];
  readonly #jobs: Job[] = [];
  readonly #matrices = new Map<string, PlacedWeight>();
  readonly #tables = new Map<string, Tensor>();
  readonly #vectors = new Map<string, Tensor>();
  readonly #repack: boolean;
  readonly #stackable = new Map<string, boolean>();
  readonly #extendedWidths = new Set<number>();
  /** What kernels read in the file's mapping. */
  readonly #inPlace = new Set<WeightTensor>();

  constructor(library: GgmlLibrary, source: ReadonlyMap<string, WeightTensor>, repack: boolean) {
    this.#library = library;
    this.#source = source;
    this.#repack = repack;
    // A weight becomes at most three tensors: a vector, a table and a matrix.
    const bytes = (3 * source.size + 16) * library.ggml.ggml_tensor_overhead();
    this.#context = library.ggml.ggml_init({ mem_size: bytes, mem_buffer: null, no_alloc: true });
  }

  get bytes(): number {
    return Object.values(this.placementBytes).reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Input widths that extended matrices want. */
  get extendedWidths(): number[] {
    return [...this.#extendedWidths];
  }

  /** Whether stacking these matrices pays: they are copied anyway (repacked), or small beside the saved op. Asked for every recording. */
  canStack(names: readonly string[]): boolean {
    const key = names.join('+');
    const known = this.#stackable.get(key) ?? this.#decideStacking(names);
    this.#stackable.set(key, known);
    return known;
  }

  #decideStacking(names: readonly string[]): boolean {
    const parts = names.map((name) => this.#tensor(name));
    const [first] = parts as [WeightTensor];
    const { columns } = matrixShape(first);
    if (parts.some((part) => part.dtype !== first.dtype || matrixShape(part).columns !== columns))
      return false;
    const rows = parts.reduce((sum, part) => sum + matrixShape(part).rows, 0);
    if (this.#choosePlacement(first.dtype, columns, rows, true).kind !== 'copied') return true;
    return parts.reduce((sum, part) => sum + part.byteLength, 0) <= stackedCopyBytesMax;
  }

  /** Places every weight of a fused graph. Call once, with a graph of any batch shape. */
  place(graph: Graph, stacked: StackedWeights): void {
    const uses = weightUses(graph);
    for (const [name, use] of uses) {
      if (use.has('vector')) this.#vectors.set(name, this.#newVector(stacked.get(name) ?? [name]));
      // A tied table is looked up in place even where its matrix form is repacked.
      if (use.has('table')) this.#tables.set(name, this.#newMapped(this.#tensor(name)));
      if (use.has('matrix')) this.#planMatrix(name, stacked.get(name) ?? [name]);
    }
    this.#runJobs();
  }

  matrix(name: string): PlacedWeight {
    return definite(this.#matrices.get(name), `the placed matrix ${name}`);
  }

  table(name: string): Tensor {
    return definite(this.#tables.get(name), `the placed table ${name}`);
  }

  vector(name: string): Tensor {
    return definite(this.#vectors.get(name), `the placed vector ${name}`);
  }

  close(): void {
    const { ggml } = this.#library;
    for (const buffer of this.#buffers) ggml.ggml_backend_buffer_free(buffer);
    for (const { map, buffer } of this.#maps.values()) {
      ggml.ggml_backend_buffer_free(buffer);
      map.close();
    }
    ggml.ggml_free(this.#context);
  }

  #tensor(name: string): WeightTensor {
    const tensor = this.#source.get(name);
    if (tensor) return tensor;
    const problem = `the model needs the weight '${name}', which its files lack`;
    throw new DeviceError('DEVICE_WEIGHT_MISSING', `${problem}: convert or download it again`);
  }

  /** The mapping of a tensor's file: each file once, as long as the furthest of its tensors. */
  #mapping(path: string): { map: MemoryMap; buffer: Buffer } {
    const known = this.#maps.get(path);
    if (known) return known;
    let end = 0;
    for (const tensor of this.#source.values()) {
      if (tensor.path === path) end = Math.max(end, tensor.offset + tensor.byteLength);
    }
    const map = MemoryMap.file(path, end);
    const buffer = this.#library.ggml.ggml_backend_cpu_buffer_from_ptr(BigInt(map.address), map.bytes);
    this.#library.ggml.ggml_backend_buffer_set_usage(buffer, usageWeights);
    const mapping = { map, buffer };
    this.#maps.set(path, mapping);
    return mapping;
  }

  #newMatrix(dtype: DType, columns: number, rows: number): Tensor {
    return this.#library.ggml.ggml_new_tensor_2d(this.#context, dtypes[dtype].ggmlId, columns, rows);
  }

  #newMapped(weight: WeightTensor): Tensor {
    const { columns, rows } = matrixShape(weight);
    const tensor = this.#newMatrix(weight.dtype, columns, rows);
    const { map, buffer } = this.#mapping(weight.path);
    this.#library.ggml.ggml_backend_tensor_alloc(buffer, tensor, BigInt(map.address + weight.offset));
    this.placementBytes.mapped += weight.byteLength;
    this.#inPlace.add(weight);
    return tensor;
  }

  /** Vectors are float32 to every op of ggml: small, so always copied. */
  #newVector(partNames: readonly string[]): Tensor {
    const { ggml } = this.#library;
    const parts = partNames.map((name) => {
      const weight = this.#tensor(name);
      const { map } = this.#mapping(weight.path);
      return toFloats(weight, new Uint8Array(map.view(weight.offset, weight.byteLength)));
    });
    const values = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      values.set(part, at);
      at += part.length;
    }
    const tensor = ggml.ggml_new_tensor_1d(this.#context, 0, values.length);
    this.#allocate(this.#library.cpuBufferType, [tensor]);
    ggml.ggml_backend_tensor_set(tensor, new Uint8Array(values.buffer), 0, values.byteLength);
    return tensor;
  }

  #planMatrix(name: string, partNames: readonly string[]): void {
    const parts = partNames.map((part) => this.#tensor(part));
    const [first] = parts as [WeightTensor];
    const { columns } = matrixShape(first);
    const rows = parts.reduce((sum, part) => sum + matrixShape(part).rows, 0);
    const placement = this.#choosePlacement(first.dtype, columns, rows, parts.length > 1);
    if (placement.kind === 'mapped') {
      const tensor = this.#tables.get(name) ?? this.#newMapped(first);
      this.#matrices.set(name, { tensor, extraColumns: 0, vectorRowsMax: vectorRowsMax[first.dtype] ?? 1 });
      return;
    }
    const extended = placement.kind === 'extended';
    const extraColumns = extended ? extensionColumns(columns) : 0;
    if (extended) this.#extendedWidths.add(columns);
    const tensor = this.#newMatrix(extended ? 'q4_0' : first.dtype, columns + extraColumns, rows);
    this.#jobs.push({ name, parts, placement, tensor, extraColumns });
    const rowsMax = placement.kind === 'copied' ? (vectorRowsMax[first.dtype] ?? 1) : 1;
    this.#matrices.set(name, { tensor, extraColumns, vectorRowsMax: rowsMax });
  }

  #choosePlacement(dtype: DType, columns: number, rows: number, stacked: boolean): Placement {
    const { extraBufferTypes } = this.#library;
    if (this.#repack) {
      const fits = (candidate: DType, width: number) =>
        extraBufferTypes.find((bufferType) =>
          supportsProduct(this.#library, candidate, width, rows, bufferType),
        );
      const bufferType = fits(dtype, columns);
      if (bufferType) return { kind: 'repacked', bufferType };
      const extendedType =
        dtype === 'q4_1' && rows % quantizedRowsMultiple === 0
          ? fits('q4_0', columns + extensionColumns(columns))
          : undefined;
      if (extendedType) return { kind: 'extended', bufferType: extendedType };
    }
    if (!supportsProduct(this.#library, dtype, columns, rows)) {
      const fix = 'build the engine in f16, q8_0 or q4_0';
      throw new DeviceError(
        'DEVICE_DTYPE_UNSUPPORTED',
        `ggml's CPU kernels cannot multiply ${dtype} matrices: ${fix}`,
      );
    }
    return stacked ? { kind: 'copied' } : { kind: 'mapped' };
  }

  /** One buffer for the given tensors. */
  #allocate(bufferType: BufferType, tensors: readonly Tensor[]): void {
    const { ggml } = this.#library;
    const sizes = tensors.map((tensor) => {
      const bytes = ggml.ggml_backend_buft_get_alloc_size(bufferType, tensor);
      return Math.ceil(bytes / alignmentBytes) * alignmentBytes;
    });
    const total = sizes.reduce((sum, bytes) => sum + bytes, 0) + alignmentBytes;
    const buffer = ggml.ggml_backend_buft_alloc_buffer(bufferType, total);
    if (!buffer) {
      throw new DeviceError(
        'DEVICE_OUT_OF_MEMORY',
        `no room for ${total} bytes of weights: use a smaller model or type`,
      );
    }
    this.#buffers.push(buffer);
    ggml.ggml_backend_buffer_set_usage(buffer, usageWeights);
    let address = ggml.ggml_backend_buffer_get_base(buffer);
    tensors.forEach((tensor, index) => {
      ggml.ggml_backend_tensor_alloc(buffer, tensor, address);
      address += BigInt(sizes[index] ?? 0);
    });
  }

  #runJobs(): void {
    const byType = new Map<BufferType, Job[]>();
    for (const job of this.#jobs) {
      const bufferType =
        'bufferType' in job.placement ? job.placement.bufferType : this.#library.cpuBufferType;
      byType.set(bufferType, [...(byType.get(bufferType) ?? []), job]);
    }
    for (const [bufferType, jobs] of byType) {
      this.#allocate(
        bufferType,
        jobs.map((job) => job.tensor),
      );
    }
    for (const job of this.#jobs) {
      this.#fill(job);
      // At once, so that loading never holds two copies of more than one weight.
      for (const part of job.parts) this.#dropMapped(part);
    }
    this.#jobs.length = 0;
  }

  #fill(job: Job): void {
    const { ggml } = this.#library;
    const bytes = ggml.ggml_nbytes(job.tensor);
    this.placementBytes[job.placement.kind] += bytes;
    const [only] = job.parts;
    if (job.placement.kind === 'repacked' && only && job.parts.length === 1) {
      const { map } = this.#mapping(only.path);
      ggml.ggml_backend_tensor_set(job.tensor, BigInt(map.address + only.offset), 0, bytes);
      return;
    }
    const staged = new Uint8Array(bytes);
    let at = 0;
    for (const part of job.parts) {
      const { rows, columns } = matrixShape(part);
      const stored = new Uint8Array(this.#mapping(part.path).map.view(part.offset, part.byteLength));
      const partBytes = job.extraColumns
        ? rows * rowBytes('q4_0', columns + job.extraColumns)
        : part.byteLength;
      const target = staged.subarray(at, at + partBytes);
      if (job.extraColumns) extendQ41(stored, target, rows, columns);
      else target.set(stored);
      at += partBytes;
    }
    ggml.ggml_backend_tensor_set(job.tensor, staged, 0, bytes);
  }

  /** Gives back the mapped pages of a weight that was copied and that nothing reads in place. */
  #dropMapped(weight: WeightTensor): void {
    if (!this.#inPlace.has(weight)) this.#mapping(weight.path).map.discard(weight.offset, weight.byteLength);
  }
}

/** How each weight node of a graph is used. */
function weightUses(graph: Graph): Map<string, Set<WeightUse>> {
  const uses = new Map<string, Set<WeightUse>>();
  for (const node of graph.nodes) {
    node.inputs.forEach((input, index) => {
      const weight = definite(graph.nodes[input], 'an input node');
      if (weight.op !== 'weight') return;
      const use =
        node.op === 'embedding' ? 'table' : node.op === 'linear' && index === 1 ? 'matrix' : 'vector';
      const known = uses.get(weight.attributes.name) ?? new Set();
      uses.set(weight.attributes.name, known.add(use));
    });
  }
  return uses;
}

function matrixShape(weight: WeightTensor): { rows: number; columns: number } {
  const [rows, columns] = weight.shape;
  if (weight.shape.length === 2 && rows !== undefined && columns !== undefined) {
    if (weight.byteLength === rows * rowBytes(weight.dtype, columns)) return { rows, columns };
  }
  const problem = `the weight '${weight.name}' has shape [${weight.shape.join(', ')}] in ${weight.byteLength} bytes of ${weight.dtype}`;
  throw new DeviceError('DEVICE_WEIGHT_INVALID', `${problem}: not a matrix of whole rows`);
}

function toFloats(weight: WeightTensor, bytes: Uint8Array): Float32Array {
  const aligned = bytes.slice();
  if (weight.dtype === 'f32') return new Float32Array(aligned.buffer);
  const convert = { f16: f16ToF32, bf16: bf16ToF32 }[weight.dtype as string];
  if (convert) return Float32Array.from(new Uint16Array(aligned.buffer), convert);
  const problem = `the vector '${weight.name}' is stored as ${weight.dtype}`;
  throw new DeviceError('DEVICE_DTYPE_UNSUPPORTED', `${problem}: vectors must be f32, f16 or bf16`);
}

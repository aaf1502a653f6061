import { DeviceError } from '../errors.ts';
import type {
  Address,
  Backend,
  BackendDevice,
  BackendRegistry,
  Buffer,
  BufferType,
  ComputeGraph,
  Context,
  GraphAllocator,
  Tensor,
  Threadpool,
} from './handles.ts';

/**
 * Where a function is found: exported by `libggml-base` or by `libggml`, or, for the CPU backend (one library an instruction set, picked at
 * run time), by name through `ggml_backend_reg_get_proc_address`.
 */
export type LibraryPart = 'base' | 'registry' | 'cpu';

type Signature = (...values: never[]) => unknown;

interface Declaration<F extends Signature> {
  readonly part: LibraryPart;
  readonly result: string;
  readonly parameters: readonly string[];
  /** Never set: carries the TypeScript signature. */
  readonly signature?: F;
}

const pointer = 'void *';

/** One row of the table: where the function lies, its C result and its C parameters. `p` is any pointer. */
function declare<F extends Signature>(part: LibraryPart, result: string, parameters: string): Declaration<F> {
  const expand = (name: string) => (name === 'p' ? pointer : name);
  return { part, result: expand(result), parameters: parameters.split(' ').filter(Boolean).map(expand) };
}

type Unary = (context: Context, a: Tensor) => Tensor;
type Binary = (context: Context, a: Tensor, b: Tensor) => Tensor;
type OfDevice<R> = (device: BackendDevice) => R;
type Rope = (
  context: Context,
  a: Tensor,
  positions: Tensor,
  frequencyFactors: Tensor | null,
  dimensions: number,
  mode: number,
  originalContextLength: number,
  theta: number,
  frequencyScale: number,
  extrapolationFactor: number,
  attentionFactor: number,
  betaFast: number,
  betaSlow: number,
) => Tensor;

const unary = () => declare<Unary>('base', 'p', 'p p');
const binary = () => declare<Binary>('base', 'p', 'p p p');
const rope = () => declare<Rope>('base', 'p', 'p p p p int int int float float float float float float');

/**
 * Every function of ggml that Nereid calls, once: ggml's own name, its library, its C types (`include/ggml*.h` of ggml 0.25) and its
 * TypeScript type. {@link bindGgml} resolves all of them at start, so that a library that lacks one is refused before any use.
 */
export const ggmlFunctions = {
  ggml_version: declare<() => string>('base', 'str', ''),
  ggml_commit: declare<() => string>('base', 'str', ''),
  ggml_log_set: declare<(callback: Address | null, data: null) => void>('base', 'void', 'p p'),
  ggml_type_size: declare<(type: number) => number>('base', 'size_t', 'int'),
  ggml_blck_size: declare<(type: number) => number>('base', 'int64_t', 'int'),
  ggml_type_name: declare<(type: number) => string | null>('base', 'str', 'int'),
  ggml_quantize_chunk: declare<
    (
      type: number,
      source: Float32Array,
      target: Uint8Array,
      start: number,
      rows: number,
      rowElements: number,
      importance: Float32Array | null,
    ) => number
  >('base', 'size_t', 'int p p int64_t int64_t int64_t p'),
  ggml_quantize_requires_imatrix: declare<(type: number) => boolean>('base', 'bool', 'int'),
  ggml_tensor_overhead: declare<() => number>('base', 'size_t', ''),
  ggml_graph_overhead_custom: declare<(nodes: number, gradients: boolean) => number>(
    'base',
    'size_t',
    'size_t bool',
  ),

  ggml_init: declare<
    (parameters: { mem_size: number; mem_buffer: Address | null; no_alloc: boolean }) => Context
  >('base', 'p', 'ggml_init_params'),
  ggml_free: declare<(context: Context) => void>('base', 'void', 'p'),
  ggml_nbytes: declare<(tensor: Tensor) => number>('base', 'size_t', 'p'),
  ggml_new_graph_custom: declare<(context: Context, nodes: number, gradients: boolean) => ComputeGraph>(
    'base',
    'p',
    'p size_t bool',
  ),
  ggml_build_forward_expand: declare<(graph: ComputeGraph, tensor: Tensor) => void>('base', 'void', 'p p'),
  ggml_graph_node: declare<(graph: ComputeGraph, index: number) => Tensor>('base', 'p', 'p int'),
  ggml_graph_add_node: declare<(graph: ComputeGraph, tensor: Tensor) => void>('base', 'void', 'p p'),
  ggml_graph_n_nodes: declare<(graph: ComputeGraph) => number>('base', 'int', 'p'),
  ggml_set_input: declare<(tensor: Tensor) => void>('base', 'void', 'p'),
  ggml_set_output: declare<(tensor: Tensor) => void>('base', 'void', 'p'),
  ggml_set_name: declare<(tensor: Tensor, name: string) => Tensor>('base', 'p', 'p str'),

  ggml_new_tensor_1d: declare<(context: Context, type: number, n0: number) => Tensor>(
    'base',
    'p',
    'p int int64_t',
  ),
  ggml_new_tensor_2d: declare<(context: Context, type: number, n0: number, n1: number) => Tensor>(
    'base',
    'p',
    'p int int64_t int64_t',
  ),
  ggml_new_tensor_3d: declare<(context: Context, type: number, n0: number, n1: number, n2: number) => Tensor>(
    'base',
    'p',
    'p int int64_t int64_t int64_t',
  ),
  ggml_new_tensor_4d: declare<
    (context: Context, type: number, n0: number, n1: number, n2: number, n3: number) => Tensor
  >('base', 'p', 'p int int64_t int64_t int64_t int64_t'),
  ggml_view_4d: declare<
    (
      context: Context,
      a: Tensor,
      n0: number,
      n1: number,
      n2: number,
      n3: number,
      b1: number,
      b2: number,
      b3: number,
      offset: number,
    ) => Tensor
  >('base', 'p', 'p p int64_t int64_t int64_t int64_t size_t size_t size_t size_t'),
  ggml_permute: declare<
    (context: Context, a: Tensor, x0: number, x1: number, x2: number, x3: number) => Tensor
  >('base', 'p', 'p p int int int int'),
  ggml_reshape_4d: declare<
    (context: Context, a: Tensor, n0: number, n1: number, n2: number, n3: number) => Tensor
  >('base', 'p', 'p p int64_t int64_t int64_t int64_t'),
  ggml_cont: unary(),
  ggml_cpy: binary(),
  ggml_cast: declare<(context: Context, a: Tensor, type: number) => Tensor>('base', 'p', 'p p int'),

  ggml_get_rows: binary(),
  ggml_set_rows: declare<(context: Context, target: Tensor, rows: Tensor, indices: Tensor) => Tensor>(
    'base',
    'p',
    'p p p p',
  ),
  ggml_mul_mat: binary(),
  ggml_out_prod: binary(),
  ggml_add: binary(),
  ggml_add_inplace: binary(),
  ggml_mul: binary(),
  ggml_repeat_4d: declare<
    (context: Context, a: Tensor, n0: number, n1: number, n2: number, n3: number) => Tensor
  >('base', 'p', 'p p int64_t int64_t int64_t int64_t'),
  ggml_concat: declare<(context: Context, a: Tensor, b: Tensor, dimension: number) => Tensor>(
    'base',
    'p',
    'p p p int',
  ),
  ggml_scale: declare<(context: Context, a: Tensor, factor: number) => Tensor>('base', 'p', 'p p float'),
  ggml_sum_rows: unary(),
  ggml_rms_norm: declare<(context: Context, a: Tensor, epsilon: number) => Tensor>('base', 'p', 'p p float'),
  ggml_norm: declare<(context: Context, a: Tensor, epsilon: number) => Tensor>('base', 'p', 'p p float'),
  ggml_silu: unary(),
  ggml_gelu: unary(),
  ggml_gelu_erf: unary(),
  ggml_gelu_quick: unary(),
  ggml_relu: unary(),
  ggml_tanh: unary(),
  ggml_sigmoid: unary(),
  ggml_swiglu: unary(),
  ggml_swiglu_split: binary(),
  ggml_geglu: unary(),
  ggml_geglu_split: binary(),
  ggml_geglu_erf: unary(),
  ggml_geglu_erf_split: binary(),
  ggml_geglu_quick: unary(),
  ggml_geglu_quick_split: binary(),
  ggml_soft_max: unary(),
  ggml_argmax: unary(),
  ggml_rope_ext: rope(),
  ggml_rope_ext_inplace: rope(),
  ggml_flash_attn_ext: declare<
    (
      context: Context,
      q: Tensor,
      k: Tensor,
      v: Tensor,
      mask: Tensor | null,
      scale: number,
      maxBias: number,
      softcap: number,
    ) => Tensor
  >('base', 'p', 'p p p p p float float float'),

  ggml_gallocr_new: declare<(type: BufferType) => GraphAllocator>('base', 'p', 'p'),
  ggml_gallocr_free: declare<(allocator: GraphAllocator) => void>('base', 'void', 'p'),
  ggml_gallocr_alloc_graph: declare<(allocator: GraphAllocator, graph: ComputeGraph) => boolean>(
    'base',
    'bool',
    'p p',
  ),
  ggml_gallocr_reserve: declare<(allocator: GraphAllocator, graph: ComputeGraph) => boolean>(
    'base',
    'bool',
    'p p',
  ),
  ggml_gallocr_get_buffer_size: declare<(allocator: GraphAllocator, index: number) => number>(
    'base',
    'size_t',
    'p int',
  ),

  ggml_backend_load_all_from_path: declare<(path: string) => void>('registry', 'void', 'str'),
  ggml_backend_dev_count: declare<() => number>('registry', 'size_t', ''),
  ggml_backend_dev_get: declare<(index: number) => BackendDevice>('registry', 'p', 'size_t'),
  ggml_backend_dev_name: declare<OfDevice<string>>('base', 'str', 'p'),
  ggml_backend_dev_description: declare<OfDevice<string>>('base', 'str', 'p'),
  ggml_backend_dev_type: declare<OfDevice<number>>('base', 'int', 'p'),
  ggml_backend_dev_buffer_type: declare<OfDevice<BufferType>>('base', 'p', 'p'),
  ggml_backend_dev_supports_op: declare<(device: BackendDevice, op: Tensor) => boolean>(
    'base',
    'bool',
    'p p',
  ),
  ggml_backend_dev_init: declare<(device: BackendDevice, parameters: null) => Backend>('base', 'p', 'p p'),
  ggml_backend_dev_backend_reg: declare<OfDevice<BackendRegistry>>('base', 'p', 'p'),
  ggml_backend_reg_get_proc_address: declare<(registry: BackendRegistry, name: string) => Address | null>(
    'base',
    'p',
    'p str',
  ),
  ggml_backend_free: declare<(backend: Backend) => void>('base', 'void', 'p'),
  ggml_backend_graph_compute: declare<(backend: Backend, graph: ComputeGraph) => number>(
    'base',
    'int',
    'p p',
  ),

  ggml_backend_buft_name: declare<(type: BufferType) => string>('base', 'str', 'p'),
  ggml_backend_buft_alloc_buffer: declare<(type: BufferType, size: number) => Buffer | null>(
    'base',
    'p',
    'p size_t',
  ),
  ggml_backend_buft_get_alignment: declare<(type: BufferType) => number>('base', 'size_t', 'p'),
  ggml_backend_buft_get_alloc_size: declare<(type: BufferType, tensor: Tensor) => number>(
    'base',
    'size_t',
    'p p',
  ),
  ggml_backend_buffer_free: declare<(buffer: Buffer) => void>('base', 'void', 'p'),
  ggml_backend_buffer_get_base: declare<(buffer: Buffer) => Address>('base', 'p', 'p'),
  ggml_backend_buffer_set_usage: declare<(buffer: Buffer, usage: number) => void>('base', 'void', 'p int'),
  ggml_backend_cpu_buffer_from_ptr: declare<(address: Address, size: number) => Buffer>(
    'base',
    'p',
    'p size_t',
  ),
  ggml_backend_tensor_alloc: declare<(buffer: Buffer, tensor: Tensor, address: Address) => number>(
    'base',
    'int',
    'p p p',
  ),
  ggml_backend_tensor_set: declare<
    (tensor: Tensor, data: Address | Uint8Array, offset: number, size: number) => void
  >('base', 'void', 'p p size_t size_t'),

  ggml_backend_dev_get_extra_bufts: declare<OfDevice<Address | null>>('cpu', 'p', 'p'),
  ggml_backend_get_features: declare<(registry: BackendRegistry) => Address | null>('cpu', 'p', 'p'),
  ggml_backend_set_n_threads: declare<(backend: Backend, threads: number) => void>('cpu', 'void', 'p int'),
  ggml_backend_cpu_set_threadpool: declare<(backend: Backend, pool: Threadpool) => void>(
    'cpu',
    'void',
    'p p',
  ),
  ggml_threadpool_params_init: declare<(parameters: Uint8Array, threads: number) => void>(
    'base',
    'void',
    'p int',
  ),
  ggml_threadpool_new: declare<(parameters: Uint8Array) => Threadpool | null>('cpu', 'p', 'p'),
  ggml_threadpool_free: declare<(pool: Threadpool) => void>('cpu', 'void', 'p'),
} as const;

type FunctionTable = typeof ggmlFunctions;

/** All of ggml's functions, callable. */
export type Ggml = {
  [N in keyof FunctionTable]: NonNullable<FunctionTable[N]['signature']>;
};

/**
 * Resolves the functions of one part, all or nothing.
 * @param resolve makes one function callable, or throws or returns nothing where the library lacks it
 * @throws DeviceError DEVICE_LIBRARY_MISMATCH naming every function that is missing
 */
export function bindPart(
  part: LibraryPart,
  path: string,
  resolve: (name: string, result: string, parameters: string[]) => unknown,
): Partial<Ggml> {
  const bound: Record<string, unknown> = {};
  const missing: string[] = [];
  for (const [name, row] of Object.entries(ggmlFunctions)) {
    if (row.part !== part) continue;
    const callable = attempt(() => resolve(name, row.result, [...row.parameters]));
    if (callable) bound[name] = callable;
    else missing.push(name);
  }
  if (missing.length > 0) {
    const fix = 'install the @node-llama-cpp release that package.json pins';
    throw new DeviceError('DEVICE_LIBRARY_MISMATCH', `${path} lacks ${missing.join(', ')}: ${fix}`);
  }
  return bound as Partial<Ggml>;
}

function attempt(resolve: () => unknown): unknown {
  try {
    return resolve();
  } catch {
    return undefined;
  }
}

/**
 * node --import tsx bench/device-matmul.ts [--types q4_0,q4_1,…] [--rows 1,4,16,128,512] [--threads 2] [--rounds 7]
 *
 * All matrix products of a 30-layer Llama of 135M parameters (width 576, feed-forward 1536), by weight type and rows a step, in plain
 * memory and in each of ggml's extra buffer types that take the type. It decides where weights are worth repacking: see
 * docs/device-ggml.md. Milliseconds a step: the fastest round, and the median.
 */
import { parseArgs } from 'node:util';
import { definite } from '../src/base/errors.ts';
import { SeededRandom } from '../src/base/random.ts';
import { Compute } from '../src/device/ggml/compute.ts';
import type { BufferType, ComputeGraph, Tensor } from '../src/device/ggml/handles.ts';
import { loadGgml } from '../src/device/ggml/library.ts';
import { supportsProduct } from '../src/device/ggml/supports.ts';
import { type DType, dtypes, parseDType, rowBytes } from '../src/graph/dtype.ts';

const { values: flags } = parseArgs({
  options: {
    types: { type: 'string', default: 'f16,bf16,q8_0,q4_0,q4_1,q5_0,q5_1,iq4_nl,mxfp4' },
    rows: { type: 'string', default: '1,4,16,128,512' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '7' },
  },
});
const library = loadGgml();
const { ggml } = library;
const rowCounts = flags.rows.split(',').map(Number);
const layers = 30;
const shapes = [
  [960, 576],
  [576, 576],
  [3072, 576],
  [576, 1536],
] as const;
const alignmentBytes = 64;
const random = new SeededRandom(1);
const floats = Float32Array.from({ length: 3072 * 1536 }, () => random.next() - 0.5);

/** All weights of one type in one buffer, and a graph of all products for each number of rows. */
function graphsOf(dtype: DType, bufferType: BufferType): ComputeGraph[] {
  const weights = ggml.ggml_init({ mem_size: 8e6, mem_buffer: null, no_alloc: true });
  const type = dtypes[dtype].ggmlId;
  const tensors: { tensor: Tensor; columns: number; data: Uint8Array }[] = [];
  const bytesOf = (data: Uint8Array) => Math.ceil(data.length / alignmentBytes) * alignmentBytes;
  const stored = shapes.map(([rows, columns]) => {
    const data = new Uint8Array(rows * rowBytes(dtype, columns));
    ggml.ggml_quantize_chunk(type, floats, data, 0, rows, columns, null);
    return data;
  });
  for (let layer = 0; layer < layers; layer++) {
    shapes.forEach(([rows, columns], index) => {
      const tensor = ggml.ggml_new_tensor_2d(weights, type, columns, rows);
      tensors.push({ tensor, columns, data: definite(stored[index], 'stored weights') });
    });
  }
  const total = tensors.reduce((sum, { data }) => sum + bytesOf(data), 0);
  const buffer = definite(
    ggml.ggml_backend_buft_alloc_buffer(bufferType, total + alignmentBytes),
    'a buffer',
  );
  let address = ggml.ggml_backend_buffer_get_base(buffer);
  for (const { tensor, data } of tensors) {
    ggml.ggml_backend_tensor_alloc(buffer, tensor, address);
    ggml.ggml_backend_tensor_set(tensor, data, 0, data.length);
    address += BigInt(bytesOf(data));
  }
  return rowCounts.map((rows) => productsOf(tensors, rows));
}

function productsOf(weights: { tensor: Tensor; columns: number }[], rows: number): ComputeGraph {
  const context = ggml.ggml_init({ mem_size: 8e6, mem_buffer: null, no_alloc: true });
  const graph = ggml.ggml_new_graph_custom(context, 1024, false);
  const inputs = new Map<number, Tensor>();
  for (const { tensor, columns } of weights) {
    const input = inputs.get(columns) ?? ggml.ggml_new_tensor_2d(context, 0, columns, rows);
    ggml.ggml_set_input(input);
    ggml.ggml_set_output(input);
    inputs.set(columns, input);
    ggml.ggml_build_forward_expand(graph, ggml.ggml_mul_mat(context, tensor, input));
  }
  ggml.ggml_gallocr_alloc_graph(ggml.ggml_gallocr_new(library.cpuBufferType), graph);
  for (const [columns, input] of inputs) {
    const bytes = new Uint8Array(floats.buffer, 0, columns * rows * 4);
    ggml.ggml_backend_tensor_set(input, bytes, 0, bytes.length);
  }
  return graph;
}

const compute = new Compute(library, Number(flags.threads), 50);
const contenders: { name: string; graphs: ComputeGraph[] }[] = [];
for (const dtype of flags.types.split(',').map(parseDType)) {
  contenders.push({ name: dtype, graphs: graphsOf(dtype, library.cpuBufferType) });
  for (const bufferType of library.extraBufferTypes) {
    if (!shapes.every(([rows, columns]) => supportsProduct(library, dtype, columns, rows, bufferType)))
      continue;
    contenders.push({
      name: `${dtype} ${ggml.ggml_backend_buft_name(bufferType)}`,
      graphs: graphsOf(dtype, bufferType),
    });
  }
}
const times = contenders.map(() => rowCounts.map((): number[] => []));
for (let round = 0; round < Number(flags.rounds); round++) {
  contenders.forEach(({ graphs }, contender) => {
    graphs.forEach((graph, index) => {
      const startMs = performance.now();
      compute.run(graph);
      times[contender]?.[index]?.push(performance.now() - startMs);
    });
  });
}
console.log(`${'rows a step'.padEnd(18)}${rowCounts.map((rows) => String(rows).padStart(18)).join('')}`);
contenders.forEach(({ name }, contender) => {
  const cells = (times[contender] ?? []).map((values) => {
    values.sort((a, b) => a - b);
    return `${values[0]?.toFixed(2)} / ${values[values.length >> 1]?.toFixed(2)}`.padStart(18);
  });
  console.log(name.padEnd(18) + cells.join(''));
});
compute.close();

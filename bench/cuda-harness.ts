// Memory, timing and checks for the benchmarks of single CUDA kernels.
import { bf16ToF32 } from '../src/base/half.ts';
import { CapturedGraph } from '../src/device/cuda/capture.ts';
import { handleFrom } from '../src/device/cuda/driver.ts';
import { Gpu } from '../src/device/cuda/gpu.ts';
import { type Argument, float, int, LaunchArena, launch, pointer } from '../src/device/cuda/launch.ts';
import { MemoryPool } from '../src/device/cuda/memory-pool.ts';

const wanted = process.argv.slice(2);
export const runs = (name: string) => wanted.length === 0 || wanted.includes(name);
export const gpu = new Gpu(0, [], process.env);
export const pool = new MemoryPool(gpu.driver);
const arena = new LaunchArena();
export const { driver, stream } = gpu;
console.log(
  JSON.stringify({
    ...gpu.facts,
    nvrtc: gpu.compiler.version,
    cublasLt: gpu.cublas.version,
    at: gpu.cublas.path,
  }),
);

export function fill(at: number, count: number, seed: number, scale: number, offset = 0): void {
  const kernel = gpu.modules.kernel('fill', 'fill');
  const p = [pointer(at), pointer(count), int(seed), float(scale), float(offset)];
  run(kernel, [2048, 1, 1], 256, 0, p, false);
}

export function prepare(
  kernel: bigint,
  grid: [number, number, number],
  threads: number,
  sharedBytes: number,
  parameters: Argument[],
  overlaps = true,
) {
  return arena.prepare({ kernel, grid, threads, sharedBytes, parameters, overlaps }, stream);
}

export function run(...values: Parameters<typeof prepare>): void {
  launch(driver, prepare(...values));
}

/** Median milliseconds of a replayed graph. */
export function time(queue: () => void, repeats = 7): number {
  queue();
  gpu.synchronize();
  const graph = new CapturedGraph(driver, stream, queue);
  const start = handleFrom((out) => driver.cuEventCreate(out, 0));
  const end = handleFrom((out) => driver.cuEventCreate(out, 0));
  const ms = new Float32Array(1);
  const times: number[] = [];
  for (let k = -1; k < repeats; k++) {
    driver.cuEventRecord(start, stream);
    graph.launch(stream);
    driver.cuEventRecord(end, stream);
    gpu.synchronize();
    driver.cuEventElapsedTime_v2(ms, start, end);
    if (k >= 0) times.push(ms[0] as number);
  }
  graph.close();
  times.sort((a, b) => a - b);
  return times[times.length >> 1] as number;
}

export function download(at: number, count: number): Float32Array {
  const bytes = new Uint8Array(count * 2);
  gpu.synchronize();
  driver.cuMemcpyDtoH_v2(bytes, at, bytes.length);
  const words = new Uint16Array(bytes.buffer);
  return Float32Array.from(words, (word) => bf16ToF32(word));
}

export function upload(values: Int32Array): number {
  const at = pool.take(values.byteLength);
  driver.cuMemcpyHtoD_v2(
    at,
    new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
    values.byteLength,
  );
  return at;
}

export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += ((actual[i] as number) - (expected[i] as number)) ** 2;
    norm += (expected[i] as number) ** 2;
  }
  return Math.sqrt(difference / norm);
}

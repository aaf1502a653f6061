// Times and checks the CUDA device's kernels alone, at the shape of Llama 3.1 8B: the table in docs/gpu-log.md is its output.
// node --import tsx bench/cuda-kernels.ts [gemv] [gemm] [decode] [prefill]
import { execFileSync } from 'node:child_process';
import { CapturedGraph } from '../src/device/cuda/capture.ts';
import { handleFrom } from '../src/device/cuda/driver.ts';
import { Gemms, gemmWorkspaceBytes } from '../src/device/cuda/gemm.ts';
import { Gpu } from '../src/device/cuda/gpu.ts';
import { type Argument, float, int, LaunchArena, launch, pointer } from '../src/device/cuda/launch.ts';
import { MemoryPool } from '../src/device/cuda/memory-pool.ts';
import { bf16ToF32 } from '../src/base/half.ts';

const wanted = process.argv.slice(2);
const runs = (name: string) => wanted.length === 0 || wanted.includes(name);
const gpu = new Gpu(0, [], process.env);
const pool = new MemoryPool(gpu.driver);
const arena = new LaunchArena();
const { driver, stream } = gpu;
console.log(JSON.stringify({ ...gpu.facts, nvrtc: gpu.compiler.version, cublasLt: gpu.cublas.version, at: gpu.cublas.path }));

function clocks(): string {
  const query = '--query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu';
  return execFileSync('nvidia-smi', [query, '--format=csv,noheader'], { encoding: 'utf8' }).trim();
}

function fill(at: number, count: number, seed: number, scale: number, offset = 0): void {
  const kernel = gpu.modules.kernel('fill', 'fill');
  const p = [pointer(at), pointer(count), int(seed), float(scale), float(offset)];
  run(kernel, [2048, 1, 1], 256, 0, p, false);
}

function prepare(kernel: bigint, grid: [number, number, number], threads: number, sharedBytes: number, parameters: Argument[], overlaps = true) {
  return arena.prepare({ kernel, grid, threads, sharedBytes, parameters, overlaps }, stream);
}

function run(...values: Parameters<typeof prepare>): void {
  launch(driver, prepare(...values));
}

/** Median milliseconds of a replayed graph. */
function time(queue: () => void, repeats = 7): number {
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

function download(at: number, count: number): Float32Array {
  const bytes = new Uint8Array(count * 2);
  gpu.synchronize();
  driver.cuMemcpyDtoH_v2(bytes, at, bytes.length);
  const words = new Uint16Array(bytes.buffer);
  return Float32Array.from(words, (word) => bf16ToF32(word));
}

function upload(values: Int32Array): number {
  const at = pool.take(values.byteLength);
  driver.cuMemcpyHtoD_v2(at, new Uint8Array(values.buffer, values.byteOffset, values.byteLength), values.byteLength);
  return at;
}

function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += ((actual[i] as number) - (expected[i] as number)) ** 2;
    norm += (expected[i] as number) ** 2;
  }
  return Math.sqrt(difference / norm);
}

const layers = 32;
const shapes: [string, number, number][] = [['qkv', 6144, 4096], ['o', 4096, 4096], ['gate+up', 28672, 4096], ['down', 4096, 14336], ['lm head', 128256, 4096]];

function gemvLaunch(variant: Record<string, number>, perSm: number, w: number, x: number, y: number, norm: number, batch: number, inputs: number, outputs: number) {
  const { WARPS = 8, GATED = 0 } = variant;
  const shared = batch * (inputs + 8) * 2 + (GATED ? 2 : 1) * WARPS * 128 * 4;
  const kernel = gpu.modules.kernel('gemv', 'gemv', variant, shared);
  const tiles = Math.ceil(outputs / 16);
  const grid = Math.min(tiles, gpu.facts.multiprocessors * perSm);
  const p = [pointer(w), pointer(x), pointer(norm), pointer(0), pointer(0), pointer(y), int(batch), int(inputs), int(outputs), int(inputs), int(outputs), int(outputs), float(1e-5)];
  return prepare(kernel, [grid, 1, 1], WARPS * 32, shared, p);
}

function gemvCheck(): void {
  const [inputs, outputs, batch] = [480, 72, 5];
  const w = pool.take(outputs * inputs * 2);
  const x = pool.take(batch * inputs * 2);
  const y = pool.take(batch * outputs * 2);
  const norm = pool.take(inputs * 4);
  fill(w, outputs * inputs, 1, 1);
  fill(x, batch * inputs, 2, 1);
  launch(driver, gemvLaunch({ WARPS: 8, UNROLL: 4 }, 2, w, x, y, norm, batch, inputs, outputs));
  const [hw, hx, hy] = [download(w, outputs * inputs), download(x, batch * inputs), download(y, batch * outputs)];
  const expected = Array.from({ length: batch * outputs }, (_, e) => {
    let sum = 0;
    for (let i = 0; i < inputs; i++) sum += (hx[Math.floor(e / outputs) * inputs + i] as number) * (hw[(e % outputs) * inputs + i] as number);
    return sum;
  });
  console.log(`gemv check: relative error ${relativeError(hy, expected).toExponential(2)}`);
  const gemms = new Gemms(gpu, pool.take(gemmWorkspaceBytes));
  const shape = { rows: batch, inputs, outputs, inputStride: inputs, outputStride: outputs, inputType: 'bf16', outputType: 'bf16', accumulates: false, hasBias: false } as const;
  gemms.prepare(shape, { weight: w, x, y })();
  console.log(`cublasLt check: relative error ${relativeError(download(y, batch * outputs), expected).toExponential(2)}`);
}

if (runs('gemv')) {
  gemvCheck();
  const x = pool.take(8 * 14336 * 2);
  const y = pool.take(8 * 128256 * 2);
  const norm = pool.take(14336 * 4);
  fill(x, 8 * 14336, 3, 1);
  for (const [name, outputs, inputs] of shapes) {
    const copies = name === 'lm head' ? 2 : 8;
    const own = new MemoryPool(driver);
    const weights = Array.from({ length: copies }, (_, k) => {
      const at = own.take(outputs * inputs * 2);
      fill(at, outputs * inputs, 10 + k, 0.05);
      return at;
    });
    const line: string[] = [];
    const gated = name === 'gate+up';
    const variants = gated
      ? ([[8, 2, 3, 3], [8, 4, 2, 2], [8, 4, 1, 2], [16, 2, 1, 1], [16, 2, 2, 2], [16, 1, 2, 2], [8, 3, 2, 2], [4, 4, 4, 4], [4, 2, 6, 6]] as const)
      : ([[8, 4, 3, 3], [8, 4, 2, 4], [16, 2, 2, 2], [16, 2, 1, 2], [16, 4, 1, 1], [8, 8, 2, 2], [16, 1, 2, 2], [8, 2, 4, 4]] as const);
    for (const [WARPS, UNROLL, perSm, MIN_BLOCKS] of variants) {
      for (const NORM of inputs === 4096 && name !== 'o' ? [0, 1] : [0]) {
        const variant = { WARPS, UNROLL, MIN_BLOCKS, NORM, GATED: gated ? 1 : 0 };
        const prepared = weights.map((w) => gemvLaunch(variant, perSm, w, x, y, norm, 1, inputs, gated ? outputs / 2 : outputs));
        const ms = time(() => prepared.forEach((p) => launch(driver, p)));
        line.push(`w${WARPS}u${UNROLL}x${perSm}m${MIN_BLOCKS}${NORM ? 'n' : ''} ${((copies * outputs * inputs * 2) / ms / 1e9).toFixed(2)}`);
      }
    }
    console.log(`gemv ${name}: TB/s  ${line.join('  ')}`);
    own.close();
  }
  console.log('clocks', clocks());
}

if (runs('gemm')) {
  const gemms = new Gemms(gpu, pool.take(gemmWorkspaceBytes));
  const own = new MemoryPool(driver);
  const x = own.take(4096 * 14336 * 2);
  const y = own.take(4096 * 28672 * 2);
  fill(x, 4096 * 14336, 3, 1);
  for (const rows of [1, 16, 64, 256, 512, 2048]) {
    let total = 0;
    const line: string[] = [];
    for (const [name, outputs, inputs] of shapes.slice(0, 4)) {
      const weightPool = new MemoryPool(driver);
      const weights = Array.from({ length: 6 }, (_, k) => {
        const at = weightPool.take(outputs * inputs * 2);
        fill(at, outputs * inputs, 10 + k, 0.05);
        return at;
      });
      const shape = { rows, inputs, outputs, inputStride: inputs, outputStride: outputs, inputType: 'bf16', outputType: 'bf16', accumulates: false, hasBias: false } as const;
      const products = weights.map((weight) => gemms.prepare(shape, { weight, x, y }, weights));
      const ms = time(() => products.forEach((product) => product())) / 6;
      total += ms * layers;
      line.push(`${name} ${(ms * 1000).toFixed(1)} µs ${((2 * rows * outputs * inputs) / ms / 1e9).toFixed(0)} TFLOP/s`);
      weightPool.close();
    }
    console.log(`gemm ${rows} rows: ${line.join('  ')}  all layers ${total.toFixed(2)} ms`);
  }
  console.log('clocks', clocks());
  own.close();
}

function attentionReference(q: Float32Array, kv: (position: number, head: number, which: number, d: number) => number, heads: number, kvHeads: number, position: number, at: number): number[] {
  const out: number[] = [];
  for (let h = 0; h < heads; h++) {
    const kvHead = Math.floor(h / (heads / kvHeads));
    const scores = Array.from({ length: position + 1 }, (_, k) => {
      let sum = 0;
      for (let d = 0; d < 128; d++) sum += (q[at * heads * 128 + h * 128 + d] as number) * kv(k, kvHead, 0, d);
      return Math.exp(sum / Math.sqrt(128));
    });
    const total = scores.reduce((a, b) => a + b, 0);
    for (let d = 0; d < 128; d++) out.push(scores.reduce((sum, s, k) => sum + s * kv(k, kvHead, 1, d), 0) / total);
  }
  return out;
}

function decodeLaunch(variant: Record<string, number>, perSm: number, o: { q: number; out: number; kv: number; items: number; blocks: number; partial: number; arrivals: number; batch: number; splitMin: number; splits: number }) {
  const { WARPS = 4, STAGES = 3, BALANCED = 0 } = variant;
  const shared = Math.max(WARPS * STAGES * 8192, (WARPS * 8 * 130) * 4);
  const kernel = gpu.modules.kernel('attention-decode', 'attentionDecode', variant, shared);
  const p = [pointer(o.q), pointer(o.out), pointer(o.kv), pointer(o.items), pointer(o.blocks), pointer(o.partial), pointer(o.arrivals), int(4096), int(4096), int(32), int(8), int(0), int(o.splitMin), int(o.splits), int(o.batch), float(1 / Math.sqrt(128)), float(0)];
  return prepare(kernel, BALANCED ? [132 * perSm, 1, 1] : [8, o.batch, o.splits], WARPS * 32, shared, p);
}

if (runs('decode')) {
  const heads = 32;
  const kvHeads = 8;
  const blockElements = 2 * kvHeads * 32 * 128;
  for (const [batch, context, splits, splitMin] of [[3, 77, 1, 1024], [3, 333, 8, 64], [1, 350, 1, 512], [1, 4000, 8, 512], [256, 260, 1, 4096], [256, 1030, 1, 4096], [64, 1030, 4, 256]] as const) {
    const own = new MemoryPool(driver);
    const perSequence = Math.ceil(context / 32);
    const caches = batch < 8 ? 1 : batch * context > 200000 ? 2 : 4;
    const kvs = Array.from({ length: caches }, (_, k) => {
      const at = own.take(batch * perSequence * blockElements * 2);
      fill(at, batch * perSequence * blockElements, 5 + k, 1);
      return at;
    });
    const q = own.take(batch * 4096 * 2);
    const out = own.take(batch * 4096 * 2);
    fill(q, batch * 4096, 7, 1);
    const table = Int32Array.from({ length: batch * perSequence }, (_, k) => (k * 7919) % (batch * perSequence));
    const unique = new Set(table).size === table.length ? table : Int32Array.from(table, (_, k) => k);
    const blocks = upload(unique);
    const items = upload(Int32Array.from({ length: batch * 4 }, (_, k) => [k >> 2, context, (k >> 2) * perSequence, (k >> 2) * Math.ceil(context / 16)][k & 3] as number));
    const partial = own.take(Math.max(batch * heads * splits, 132 * 8 * 16) * 130 * 4);
    const arrivals = upload(new Int32Array(batch * kvHeads + 132 * 8));
    const line: string[] = [];
    for (const [WARPS, STAGES, BALANCED, perSm] of [[4, 2, 0, 0], [4, 3, 0, 0], [2, 3, 0, 0], [2, 4, 0, 0], [8, 2, 0, 0], [4, 2, 1, 3], [4, 3, 1, 2], [2, 2, 1, 6], [2, 3, 1, 4], [2, 4, 1, 3], [1, 4, 1, 6], [1, 3, 1, 8]] as const) {
      if (batch * context < 2000 && BALANCED && batch !== 3) continue;
      const prepared = kvs.map((kv) => decodeLaunch({ WARPS, STAGES, BALANCED }, perSm, { q, out, kv, items, blocks, partial, arrivals, batch, splitMin, splits }));
      const ms = time(() => prepared.forEach((p) => launch(driver, p))) / caches;
      let check = '';
      if (batch === 3) {
        const hq = download(q, batch * 4096);
        const hkv = download(kvs[0] as number, batch * perSequence * blockElements);
        const expected = Array.from({ length: batch }, (_, b) => attentionReference(hq, (position, head, which, d) => hkv[(unique[b * perSequence + (position >> 5)] as number) * blockElements + which * kvHeads * 4096 + head * 4096 + (position & 31) * 128 + d] as number, heads, kvHeads, context - 1, b)).flat();
        const own1 = kvs.slice(0, 1).map((kv) => decodeLaunch({ WARPS, STAGES, BALANCED }, perSm, { q, out, kv, items, blocks, partial, arrivals, batch, splitMin, splits }));
        own1.forEach((p) => launch(driver, p));
        check = ` error ${relativeError(download(out, batch * 4096), expected).toExponential(1)}`;
      }
      line.push(`w${WARPS}s${STAGES}${BALANCED ? `b${perSm}` : ''} ${(ms * 1000).toFixed(1)} µs ${((batch * context * kvHeads * 512) / ms / 1e9).toFixed(2)} TB/s${check}`);
    }
    console.log(`decode ${batch} × ${context}, splits ${splits}: ${line.join('  ')}`);
    own.close();
  }
  console.log('clocks', clocks());
}

if (runs('prefill')) {
  const kvHeads = 8;
  const heads = 32;
  const blockElements = 2 * kvHeads * 32 * 128;
  for (const [batch, context, before] of [[2, 150, 37], [16, 2048, 0], [4, 8192, 0]] as const) {
    const own = new MemoryPool(driver);
    const total = context + before;
    const perSequence = Math.ceil(total / 32);
    const kv = own.take(batch * perSequence * blockElements * 2);
    fill(kv, batch * perSequence * blockElements, 5, 1);
    const q = own.take(batch * context * 4096 * 2);
    const out = own.take(batch * context * 4096 * 2);
    fill(q, batch * context * 4096, 7, 1);
    const blocks = upload(Int32Array.from({ length: batch * perSequence }, (_, k) => k));
    const list: number[][] = [];
    for (let b = 0; b < batch; b++) for (let r = 0; r < context; r += 128) list.push([b * context + r, Math.min(128, context - r), before + r, b * perSequence]);
    list.sort((x, y) => (y[2] as number) - (x[2] as number));
    const items = upload(Int32Array.from(list.flat()));
    const count = upload(Int32Array.of(list.length));
    const shared = (128 + 64 + 64) * 256;
    const kernel = gpu.modules.kernel('attention-prefill', 'attentionPrefill', {}, shared);
    const p = [pointer(q), pointer(out), pointer(kv), pointer(items), pointer(count), pointer(blocks), int(4096), int(4096), int(32), int(8), int(0), float(1 / Math.sqrt(128)), float(0)];
    const prepared = prepare(kernel, [32, list.length, 1], 128, shared, p);
    const ms = time(() => launch(driver, prepared));
    let check = '';
    if (batch === 2) {
      const hq = download(q, batch * context * 4096);
      const hkv = download(kv, batch * perSequence * blockElements);
      const actual = download(out, batch * context * 4096);
      const got: number[] = [];
      const expected: number[] = [];
      for (const [b, r] of [[0, 0], [0, 149], [1, 64], [1, 127], [1, 128], [0, 33]] as const) {
        const at = b * context + r;
        expected.push(...attentionReference(hq, (position, head, which, d) => hkv[(b * perSequence + (position >> 5)) * blockElements + which * kvHeads * 4096 + head * 4096 + (position & 31) * 128 + d] as number, heads, kvHeads, before + r, at));
        got.push(...actual.subarray(at * 4096, (at + 1) * 4096));
      }
      check = ` error ${relativeError(got, expected).toExponential(1)}`;
    }
    const flops = 4 * 128 * heads * batch * ((context * (context + 1)) / 2 + context * before);
    console.log(`prefill ${batch} × ${context}: ${ms.toFixed(3)} ms, ${(flops / ms / 1e9).toFixed(0)} TFLOP/s${check}`);
    own.close();
  }
  console.log('clocks', clocks());
}
gpu.close();

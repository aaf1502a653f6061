// Times and checks the CUDA device's matrix products at the shape of Llama 3.1 8B; docs/gpu-log.md holds its output.
// node --import tsx bench/cuda-products.ts [fp8] [gemv] [gemm]
import { Gemms, gemmWorkspaceBytes } from '../src/device/cuda/gemm.ts';
import { float, int, launch, pointer } from '../src/device/cuda/launch.ts';
import { MemoryPool } from '../src/device/cuda/memory-pool.ts';
import { download, driver, fill, gpu, pool, prepare, relativeError, runs, time } from './cuda-harness.ts';
import { clocks } from './cuda-model.ts';

const isFp8 = process.argv.includes('fp8');
const FP8 = isFp8 ? 1 : 0;
const layers = 32;
const shapes: [string, number, number][] = [
  ['qkv', 6144, 4096],
  ['o', 4096, 4096],
  ['gate+up', 28672, 4096],
  ['down', 4096, 14336],
  ['lm head', 128256, 4096],
];

function gemvLaunch(
  variant: Record<string, number>,
  perSm: number,
  w: number,
  x: number,
  y: number,
  norm: number,
  batch: number,
  inputs: number,
  outputs: number,
) {
  const { WARPS = 8, GATED = 0 } = variant;
  const shared = batch * (inputs + 8) * 2 + 2 * (GATED ? 2 : 1) * WARPS * 128 * 4;
  const kernel = gpu.modules.kernel('gemv', 'gemv', variant, shared);
  const tiles = Math.ceil(outputs / 16);
  const grid = Math.min(tiles, gpu.facts.multiprocessors * perSm);
  const p = [
    pointer(w),
    pointer(x),
    pointer(norm),
    pointer(0),
    pointer(0),
    pointer(y),
    int(batch),
    int(inputs),
    int(outputs),
    int(inputs),
    int(outputs),
    int(outputs),
    float(1e-5),
    ...(variant.FP8 ? [pointer(norm)] : []),
  ];
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
  const [hw, hx, hy] = [
    download(w, outputs * inputs),
    download(x, batch * inputs),
    download(y, batch * outputs),
  ];
  const expected = Array.from({ length: batch * outputs }, (_, e) => {
    let sum = 0;
    for (let i = 0; i < inputs; i++)
      sum +=
        (hx[Math.floor(e / outputs) * inputs + i] as number) * (hw[(e % outputs) * inputs + i] as number);
    return sum;
  });
  console.log(`gemv check: relative error ${relativeError(hy, expected).toExponential(2)}`);
  const gemms = new Gemms(gpu, pool.take(gemmWorkspaceBytes));
  const shape = {
    rows: batch,
    inputs,
    outputs,
    inputStride: inputs,
    outputStride: outputs,
    inputType: 'bf16',
    outputType: 'bf16',
    accumulates: false,
    hasBias: false,
    isScaled: true,
    splits: 1,
  } as const;
  gemms.prepare(shape, { weight: w, x, y })();
  console.log(
    `cublasLt check: relative error ${relativeError(download(y, batch * outputs), expected).toExponential(2)}`,
  );
}

if (runs('gemv')) {
  if (!isFp8) gemvCheck();
  const x = pool.take(8 * 14336 * 2);
  const y = pool.take(8 * 128256 * 2);
  const norm = pool.take(128256 * 4);
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
      ? ([
          [8, 2, 3, 3],
          [8, 4, 2, 2],
          [8, 4, 1, 1],
          [16, 2, 1, 1],
          [16, 2, 2, 2],
          [16, 1, 2, 2],
          [8, 3, 2, 2],
          [4, 4, 4, 4],
          [4, 2, 6, 6],
        ] as const)
      : ([
          [8, 4, 3, 3],
          [8, 4, 2, 4],
          [16, 2, 2, 2],
          [16, 2, 1, 2],
          [16, 4, 1, 1],
          [8, 8, 2, 2],
          [16, 1, 2, 2],
          [8, 2, 4, 4],
        ] as const);
    for (const [WARPS, UNROLL, perSm, MIN_BLOCKS] of variants) {
      for (const NORM of inputs === 4096 && name !== 'o' ? [0, 1] : [0]) {
        const variant = { WARPS, UNROLL, MIN_BLOCKS, NORM, GATED: gated ? 1 : 0, FP8 };
        const prepared = weights.map((w) =>
          gemvLaunch(variant, perSm, w, x, y, norm, 1, inputs, gated ? outputs / 2 : outputs),
        );
        const ms = time(() => {
          for (const p of prepared) launch(driver, p);
        });
        line.push(
          `w${WARPS}u${UNROLL}x${perSm}m${MIN_BLOCKS}${NORM ? 'n' : ''} ${((copies * outputs * inputs * (2 - FP8)) / ms / 1e9).toFixed(2)}`,
        );
      }
    }
    console.log(`gemv ${name}: TB/s  ${line.join('  ')}`);
    own.close();
  }
  console.log('clocks', clocks());
}

if (runs('gemm8')) {
  const own = new MemoryPool(driver);
  const x = own.take(4096 * 14336);
  const y = own.take(4096 * 28672 * 2);
  const scales = own.take(128256 * 4);
  fill(x, 2048 * 14336, 3, 1);
  for (const rows of [64, 256]) {
    for (const [name, outputs, inputs] of shapes.slice(0, 4)) {
      const weightPool = new MemoryPool(driver);
      const weights = Array.from({ length: 8 }, (_, k) => {
        const at = weightPool.take(outputs * inputs);
        fill(at, (outputs * inputs) / 2, 10 + k, 0.05);
        return at;
      });
      const line: string[] = [];
      for (const candidates of [8, 40]) {
        const gemms = new Gemms(gpu, own.take(gemmWorkspaceBytes), candidates);
        for (const accumulates of [false, true]) {
          const shape = {
            ...{ rows, inputs, outputs, inputStride: inputs, outputStride: outputs },
            ...{ inputType: 'e4m3' as const, outputType: 'bf16' as const, accumulates, hasBias: false },
            ...{ isScaled: true, splits: 1 },
          };
          const products = weights.map((weight) =>
            gemms.prepare(shape, { weight, x, y, weightScales: scales, inputScales: scales }, weights),
          );
          const ms = time(() => {
            for (const product of products) product();
          });
          line.push(`${candidates}${accumulates ? '+' : ''} ${((ms / 8) * 1000).toFixed(1)} µs`);
        }
      }
      console.log(`gemm e4m3 ${rows} rows, ${name}: ${line.join('  ')}`);
      weightPool.close();
    }
  }
  own.close();
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
      const shape = {
        rows,
        inputs,
        outputs,
        inputStride: inputs,
        outputStride: outputs,
        inputType: 'bf16',
        outputType: 'bf16',
        accumulates: false,
        hasBias: false,
        isScaled: true,
        splits: 1,
      } as const;
      const products = weights.map((weight) => gemms.prepare(shape, { weight, x, y }, weights));
      const ms =
        time(() => {
          for (const product of products) product();
        }) / 6;
      total += ms * layers;
      line.push(
        `${name} ${(ms * 1000).toFixed(1)} µs ${((2 * rows * outputs * inputs) / ms / 1e9).toFixed(0)} TFLOP/s`,
      );
      weightPool.close();
    }
    console.log(`gemm ${rows} rows: ${line.join('  ')}  all layers ${total.toFixed(2)} ms`);
  }
  console.log('clocks', clocks());
  own.close();
}
gpu.close();

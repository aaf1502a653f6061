// Looks through cuBLASLt's algorithms for the products of a Llama 3.1 8B layer beyond what its heuristics offer: other tiles, clusters and splits of
// the sum, and the sum cut into a batch. docs/gpu-log.md holds what came of it. node --import tsx bench/cuda-gemm-search.ts [fp8] [ROWS...]
import { CapturedGraph } from '../src/device/cuda/capture.ts';
import { computeFloat32, cudaDataTypes } from '../src/device/cuda/cublaslt.ts';
import { type Handle, handleFrom } from '../src/device/cuda/driver.ts';
import { bindTable, declare } from '../src/device/cuda/ffi.ts';
import { findLibrary } from '../src/device/cuda/find-libraries.ts';
import { gemmWorkspaceBytes } from '../src/device/cuda/gemm.ts';
import { MemoryPool } from '../src/device/cuda/memory-pool.ts';
import { driver, fill, gpu, pool, stream } from './cuda-harness.ts';
import { clocks } from './cuda-model.ts';

const isFp8 = process.argv.includes('fp8');
const rowCounts = process.argv
  .slice(2)
  .filter((word) => /^\d+$/.test(word))
  .map(Number);
const layoutSet = 'p int p size_t';
const more = bindTable(findLibrary('cublasLt', { environment: process.env, home: '/root' }, []), {
  cublasLtMatrixLayoutSetAttribute:
    declare<(l: Handle, a: number, v: Uint8Array, n: number) => number>(layoutSet),
  cublasLtMatmulAlgoConfigSetAttribute:
    declare<(l: Uint8Array, a: number, v: Int32Array, n: number) => number>(layoutSet),
  cublasLtMatmulAlgoConfigGetAttribute:
    declare<(l: Uint8Array, a: number, v: Int32Array, n: number, w: BigUint64Array) => number>(
      'p int p size_t p',
    ),
  cublasLtMatmulAlgoCheck:
    declare<
      (
        h: Handle,
        d: Handle,
        a: Handle,
        b: Handle,
        c: Handle,
        e: Handle,
        algo: Uint8Array,
        result: Uint8Array,
      ) => number
    >('p p p p p p p p'),
} as const);
const { calls } = gpu.cublas;
const workspace = pool.take(gemmWorkspaceBytes);
const attributes = { tile: 1, split: 2, reduction: 3, stages: 6, inner: 7, cluster: 8 } as const;
const [one, zero] = [Float32Array.of(1), Float32Array.of(0)];
const scalesAt = pool.take(4 * 2 * 131072 * 4);
fill(scalesAt, 2 * 131072, 1, 0, 1);

interface Problem {
  description: Handle;
  layouts: [Handle, Handle, Handle];
}

function describe(
  outputs: number,
  inputs: number,
  rows: number,
  batch: number,
  mode: 'outer' | 'tensor',
  out: 'bf16' | 'f32',
): Problem {
  const description = handleFrom((o) => calls.cublasLtMatmulDescCreate(o, computeFloat32, cudaDataTypes.f32));
  const set = (attribute: number, value: number | bigint, size: number) => {
    const view = new DataView(new ArrayBuffer(8));
    if (typeof value === 'bigint') view.setBigUint64(0, value, true);
    else view.setInt32(0, value, true);
    const status = calls.cublasLtMatmulDescSetAttribute(
      description,
      attribute,
      new Uint8Array(view.buffer, 0, size),
      size,
    );
    if (status !== 0) throw new Error(`attribute ${attribute}: ${status}`);
  };
  set(3, 1, 4);
  if (isFp8) {
    set(25, 1, 1);
    set(17, BigInt(scalesAt), 8);
    set(18, BigInt(scalesAt), 8);
    if (mode === 'outer') for (const attribute of [31, 32]) set(attribute, 3, 4);
  }
  const type = cudaDataTypes[isFp8 ? 'e4m3' : 'bf16'];
  const own = inputs / batch;
  const layout = (t: number, height: number, width: number, leading: number, offset: number) => {
    const made = handleFrom((o) => calls.cublasLtMatrixLayoutCreate(o, t, height, width, leading));
    if (batch > 1) {
      more.cublasLtMatrixLayoutSetAttribute(made, 5, new Uint8Array(Int32Array.of(batch).buffer), 4);
      more.cublasLtMatrixLayoutSetAttribute(
        made,
        6,
        new Uint8Array(BigInt64Array.of(BigInt(offset)).buffer),
        8,
      );
    }
    return made;
  };
  const layouts: Problem['layouts'] = [
    layout(type, own, outputs, inputs, own),
    layout(type, own, rows, inputs, own),
    layout(cudaDataTypes[out], outputs, rows, outputs, outputs * rows),
  ];
  return { description, layouts };
}

function heuristics({ description, layouts: [a, b, c] }: Problem, count: number): Uint8Array[] {
  const preference = handleFrom((o) => calls.cublasLtMatmulPreferenceCreate(o));
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(gemmWorkspaceBytes), true);
  calls.cublasLtMatmulPreferenceSetAttribute(preference, 1, bytes, 8);
  const results = new Uint8Array(count * 96);
  const returned = new Int32Array(1);
  const status = calls.cublasLtMatmulAlgoGetHeuristic(
    gpu.cublasHandle,
    description,
    a,
    b,
    c,
    c,
    preference,
    count,
    results,
    returned,
  );
  calls.cublasLtMatmulPreferenceDestroy(preference);
  if (status !== 0) return [];
  return Array.from({ length: returned[0] ?? 0 }, (_, k) => results.slice(k * 96, k * 96 + 64));
}

function timed(
  problem: Problem,
  algorithm: Uint8Array,
  weights: number[],
  x: number,
  y: number,
  adds: boolean,
): number | undefined {
  const [a, b, c] = problem.layouts;
  let graph: CapturedGraph | undefined;
  try {
    graph = new CapturedGraph(driver, stream, () => {
      for (const weight of weights) {
        const status = calls.cublasLtMatmul(
          gpu.cublasHandle,
          problem.description,
          one,
          weight,
          a,
          x,
          b,
          adds ? one : zero,
          y,
          c,
          y,
          c,
          algorithm,
          workspace,
          gemmWorkspaceBytes,
          stream,
        );
        if (status !== 0) throw new Error(`status ${status}`);
      }
    });
    const start = handleFrom((o) => driver.cuEventCreate(o, 0));
    const end = handleFrom((o) => driver.cuEventCreate(o, 0));
    const ms = new Float32Array(1);
    let best = Number.POSITIVE_INFINITY;
    for (let run = 0; run < 3; run++) {
      driver.cuEventRecord(start, stream);
      graph.launch(stream);
      driver.cuEventRecord(end, stream);
      driver.cuEventSynchronize(end);
      driver.cuEventElapsedTime_v2(ms, start, end);
      if (run > 0) best = Math.min(best, ms[0] ?? best);
    }
    driver.cuEventDestroy_v2(start);
    driver.cuEventDestroy_v2(end);
    return (best / weights.length) * 1000;
  } catch {
    return undefined;
  } finally {
    graph?.close();
  }
}

const nameOf = (algorithm: Uint8Array) =>
  [0, ...Object.values(attributes)]
    .map((attribute) => {
      const value = new Int32Array(1);
      more.cublasLtMatmulAlgoConfigGetAttribute(
        algorithm,
        attribute,
        value,
        attribute === 7 || attribute === 8 ? 2 : 4,
        new BigUint64Array(1),
      );
      return value[0];
    })
    .join('.');

for (const rows of rowCounts.length > 0 ? rowCounts : [64, 256]) {
  for (const [name, outputs, inputs] of [
    ['qkv', 6144, 4096],
    ['o', 4096, 4096],
    ['gate+up', 28672, 4096],
    ['down', 4096, 14336],
  ] as const) {
    const own = new MemoryPool(driver);
    const bytes = isFp8 ? 1 : 2;
    const weights = Array.from({ length: 8 }, (_, k) => {
      const at = own.take(outputs * inputs * bytes);
      fill(at, (outputs * inputs * bytes) / 2, 10 + k, 0.05);
      return at;
    });
    const x = own.take(rows * inputs * bytes);
    fill(x, (rows * inputs * bytes) / 2, 3, 1);
    const y = own.take(rows * outputs * 4 * 4);
    const line: string[] = [];
    const base = describe(outputs, inputs, rows, 1, 'outer', 'bf16');
    const offered = heuristics(base, 40);
    const times = offered.map((algorithm) => ({
      us: timed(base, algorithm, weights, x, y, true) ?? 1e9,
      algorithm,
    }));
    line.push(`first ${times[0]?.us.toFixed(1)}`);
    times.sort((p, q) => p.us - q.us);
    line.push(
      `best of ${times.length}: ${times
        .slice(0, 2)
        .map(({ us, algorithm }) => `${us.toFixed(1)} (${nameOf(algorithm)})`)
        .join(' ')}`,
    );
    // Changes of what is offered: any other tile, cluster or split that the library says it can run.
    let tried = 0;
    let best = { us: 1e9, what: '' };
    const [a, b, c] = base.layouts;
    for (const { algorithm } of times.slice(0, 6)) {
      for (const split of [1, 2, 3, 4]) {
        for (const reduction of split === 1 ? [0] : [1, 2, 4]) {
          for (const cluster of [undefined, 2, 3, 4, 5, 6, 7, 8, 9, 10]) {
            if (split === 1 && cluster === undefined) continue;
            const changed = algorithm.slice();
            more.cublasLtMatmulAlgoConfigSetAttribute(changed, attributes.split, Int32Array.of(split), 4);
            more.cublasLtMatmulAlgoConfigSetAttribute(
              changed,
              attributes.reduction,
              Int32Array.of(reduction),
              4,
            );
            if (cluster !== undefined)
              more.cublasLtMatmulAlgoConfigSetAttribute(
                changed,
                attributes.cluster,
                Int32Array.of(cluster),
                2,
              );
            const result = new Uint8Array(96);
            if (
              more.cublasLtMatmulAlgoCheck(
                gpu.cublasHandle,
                base.description,
                a,
                b,
                c,
                c,
                changed,
                result,
              ) !== 0
            )
              continue;
            if (new DataView(result.buffer).getBigUint64(64, true) > BigInt(gemmWorkspaceBytes)) continue;
            tried++;
            const us = timed(base, changed, weights, x, y, true) ?? 1e9;
            if (us < best.us) best = { us, what: nameOf(changed) };
          }
        }
      }
    }
    line.push(`changed (${tried}): ${best.us.toFixed(1)} (${best.what})`);
    for (const mode of isFp8 ? (['outer', 'tensor'] as const) : (['tensor'] as const)) {
      for (const batch of [1, 2, 4]) {
        for (const out of ['bf16', 'f32'] as const) {
          const problem = describe(outputs, inputs, rows, batch, mode, out);
          const all = heuristics(problem, 12).map(
            (algorithm) => timed(problem, algorithm, weights, x, y, false) ?? 1e9,
          );
          line.push(`${mode} ×${batch} ${out} ${all.length === 0 ? '–' : Math.min(...all).toFixed(1)}`);
        }
      }
    }
    console.log(`${isFp8 ? 'fp8' : 'bf16'} ${rows} rows, ${name}: ${line.join('; ')}`);
    own.close();
  }
  console.log('clocks', clocks());
}
gpu.close();

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { kernelFolder } from '../../src/device/cuda/module-cache.ts';
import { KernelCompiler } from '../../src/device/cuda/nvrtc.ts';
import { foreignPython } from '../foreign/venv.ts';

/** The macros that each kernel file is compiled with somewhere, beside the activations' type. */
const variants: Record<string, Record<string, number>[]> = {
  gemv: [
    { WARPS: 8, UNROLL: 4, MIN_BLOCKS: 3, NORM: 1, ROPE: 1 },
    { WARPS: 8, UNROLL: 4, MIN_BLOCKS: 3, NORM: 1, OUT_FLOAT: 1 },
    { WARPS: 8, UNROLL: 8, MIN_BLOCKS: 2 },
    { WARPS: 16, UNROLL: 2, MIN_BLOCKS: 2 },
    { WARPS: 16, UNROLL: 2, MIN_BLOCKS: 1, NORM: 1, GATED: 1 },
    { WARPS: 8, UNROLL: 4, MIN_BLOCKS: 3, NORM: 1, ROPE: 1, FP8: 1, KV_FP8: 1 },
    { WARPS: 8, UNROLL: 8, MIN_BLOCKS: 2, FP8: 1 },
    { WARPS: 16, UNROLL: 2, MIN_BLOCKS: 2, FP8: 1 },
    { WARPS: 16, UNROLL: 2, MIN_BLOCKS: 1, NORM: 1, GATED: 1, FP8: 1 },
  ],
  'attention-decode': [
    { HEAD: 64, WARPS: 8, SLOTS: 4, BLOCK: 32 },
    { HEAD: 128, WARPS: 8, SLOTS: 4, BLOCK: 32 },
    { HEAD: 128, WARPS: 4, SLOTS: 4, BLOCK: 32, BALANCED: 1 },
    { HEAD: 64, WARPS: 8, SLOTS: 8, BLOCK: 32, KV_FP8: 1 },
    { HEAD: 128, WARPS: 4, SLOTS: 5, BLOCK: 32, KV_FP8: 1, BALANCED: 1 },
    { HEAD: 128, WARPS: 4, SLOTS: 5, BLOCK: 32, KV_FP8: 1, MIN_BLOCKS: 5 },
  ],
  'attention-prefill': [
    { HEAD: 64, BLOCK: 32 },
    { HEAD: 128, BLOCK: 32 },
    { HEAD: 128, BLOCK: 32, KV_FP8: 1 },
  ],
  elementwise: Array.from({ length: 14 }, (_, OP) => ({ OP })),
  rope: [{ ROPE_INTERLEAVED: 0 }, { ROPE_INTERLEAVED: 1 }, { ROPE_INTERLEAVED: 1, KV_FP8: 1 }, { SCALED: 1 }],
  'sum-norm': [
    { PARTS: 2 },
    { PARTS: 1, SCALED: 1, NORM: 0, KEEPS: 0 },
    { PARTS: 2, SCALED: 1, FP8: 1, VECTORS: 4 },
  ],
  adapter: [{ ROWS: 4 }, { ROWS: 2, OUT_FLOAT: 1 }],
  sample: [{ TOP_MAX: 20 }],
  quantize: [
    { MODE: 0, VECTORS: 2 },
    { MODE: 1, VECTORS: 4 },
    { MODE: 2, VECTORS: 4 },
    { MODE: 2, VECTORS: 4, SCALED: 1 },
  ],
};

/** Bytes a thread may spill to local memory: the tensor-core prefill kernel sits at the register limit. */
const spillBytesMax = 256;
const targets = ['sm_80', 'sm_89', 'sm_90a', 'sm_100a'];

test('every kernel compiles for every supported GPU, without spilling', async (t) => {
  const foreign = await foreignPython();
  if ('skip' in foreign) return t.skip(foreign.skip);
  const environment = { VIRTUAL_ENV: dirname(dirname(foreign.python)) };
  const compiler = new KernelCompiler({ environment, home: '/nonexistent' });
  const files = readdirSync(kernelFolder).filter((name) => name.endsWith('.cu'));
  assert.ok(files.length > 0);
  for (const file of files) {
    const source = readFileSync(join(kernelFolder, file), 'utf8');
    for (const [index, defines] of (variants[file.slice(0, -3)] ?? [{}]).entries()) {
      // Hopper is where the variants are tuned; the other targets must compile.
      for (const architecture of index === 0 ? targets : ['sm_90a']) {
        const request = { name: file, source, architecture, includeFolder: kernelFolder, defines };
        const { image, log } = compiler.compile(request);
        assert.ok(image.length > 0);
        for (const [, bytes] of log.matchAll(/(\d+) bytes spill stores/g)) {
          assert.ok(
            Number(bytes) <= spillBytesMax,
            `${file} ${JSON.stringify(defines)} spills ${bytes} bytes`,
          );
        }
      }
    }
  }
});

test('other activation types compile too', async (t) => {
  const foreign = await foreignPython();
  if ('skip' in foreign) return t.skip(foreign.skip);
  const environment = { VIRTUAL_ENV: dirname(dirname(foreign.python)) };
  const compiler = new KernelCompiler({ environment, home: '/nonexistent' });
  const fast = ['attention-decode.cu', 'attention-prefill.cu', 'gemv.cu', 'quantize.cu'];
  for (const file of readdirSync(kernelFolder).filter((name) => name.endsWith('.cu'))) {
    const source = readFileSync(join(kernelFolder, file), 'utf8');
    for (const ACTIVATION of fast.includes(file) ? [1] : [0, 1]) {
      const defines = { ACTIVATION };
      compiler.compile({ name: file, source, architecture: 'sm_90a', includeFolder: kernelFolder, defines });
    }
  }
});

test('a kernel that does not compile says where', async (t) => {
  const foreign = await foreignPython();
  if ('skip' in foreign) return t.skip(foreign.skip);
  const environment = { VIRTUAL_ENV: dirname(dirname(foreign.python)) };
  const compiler = new KernelCompiler({ environment, home: '/nonexistent' });
  const request = { name: 'broken.cu', architecture: 'sm_90a', includeFolder: kernelFolder, defines: {} };
  assert.throws(() => compiler.compile({ ...request, source: 'int x = ;' }), /broken\.cu\(1\): error/);
});

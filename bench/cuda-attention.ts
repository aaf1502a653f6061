// Times and checks the CUDA device's attention kernels at the shape of Llama 3.1 8B; docs/gpu-log.md holds its output.
// node --import tsx bench/cuda-attention.ts [decode] [prefill]
import { float, int, launch, pointer } from '../src/device/cuda/launch.ts';
import { MemoryPool } from '../src/device/cuda/memory-pool.ts';
import { download, driver, fill, gpu, prepare, relativeError, runs, time, upload } from './cuda-harness.ts';
import { clocks } from './cuda-model.ts';

function attentionReference(
  q: Float32Array,
  kv: (position: number, head: number, which: number, d: number) => number,
  heads: number,
  kvHeads: number,
  position: number,
  at: number,
): number[] {
  const out: number[] = [];
  for (let h = 0; h < heads; h++) {
    const kvHead = Math.floor(h / (heads / kvHeads));
    const scores = Array.from({ length: position + 1 }, (_, k) => {
      let sum = 0;
      for (let d = 0; d < 128; d++)
        sum += (q[at * heads * 128 + h * 128 + d] as number) * kv(k, kvHead, 0, d);
      return Math.exp(sum / Math.sqrt(128));
    });
    const total = scores.reduce((a, b) => a + b, 0);
    for (let d = 0; d < 128; d++)
      out.push(scores.reduce((sum, s, k) => sum + s * kv(k, kvHead, 1, d), 0) / total);
  }
  return out;
}

function decodeLaunch(
  variant: Record<string, number>,
  perSm: number,
  o: {
    q: number;
    out: number;
    kv: number;
    items: number;
    blocks: number;
    partial: number;
    arrivals: number;
    batch: number;
    splitMin: number;
    splits: number;
  },
) {
  const { WARPS = 4, SLOTS = 6, BALANCED = 0, KV_FP8 = 0 } = variant;
  const shared = Math.max((WARPS * SLOTS * 4096) / (1 + KV_FP8), WARPS * 8 * 130 * 4);
  const kernel = gpu.modules.kernel('attention-decode', 'attentionDecode', variant, shared);
  const p = [
    pointer(o.q),
    pointer(o.out),
    pointer(o.kv),
    pointer(o.items),
    pointer(o.blocks),
    pointer(o.partial),
    pointer(o.arrivals),
    int(4096),
    int(4096),
    int(32),
    int(8),
    int(0),
    int(o.splitMin),
    int(o.splits),
    int(o.batch),
    float(1 / Math.sqrt(128)),
    float(0),
  ];
  return prepare(kernel, BALANCED ? [132 * perSm, 1, 1] : [8, o.batch, o.splits], WARPS * 32, shared, p);
}

if (runs('decode')) {
  const heads = 32;
  const kvHeads = 8;
  const blockElements = 2 * kvHeads * 32 * 128;
  for (const [batch, context, splits, splitMin] of [
    [3, 77, 1, 1024],
    [3, 333, 8, 64],
    [1, 350, 1, 512],
    [1, 4000, 8, 512],
    [128, 260, 1, 4096],
    [256, 260, 1, 4096],
    [256, 1030, 1, 4096],
    [320, 260, 1, 4096],
    [512, 260, 1, 4096],
    [64, 1030, 4, 256],
  ] as const) {
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
    const table = Int32Array.from(
      { length: batch * perSequence },
      (_, k) => (k * 7919) % (batch * perSequence),
    );
    const unique = new Set(table).size === table.length ? table : Int32Array.from(table, (_, k) => k);
    const blocks = upload(unique);
    const items = upload(
      Int32Array.from(
        { length: batch * 4 },
        (_, k) =>
          [k >> 2, context, (k >> 2) * perSequence, (k >> 2) * Math.ceil(context / 16)][k & 3] as number,
      ),
    );
    const partial = own.take(Math.max(batch * heads * splits, 132 * 8 * 16) * 130 * 4);
    const arrivals = upload(new Int32Array(batch * kvHeads + 132 * 8));
    const line: string[] = [];
    const fp8 = process.argv.includes('fp8');
    const KV_FP8 = fp8 ? 1 : 0;
    // Warps, tiles of a warp's ring, balanced, blocks a multiprocessor that registers are to leave room for (balanced: in the grid).
    const fp8Variants = [
      [4, 6, 0, 0],
      [4, 5, 0, 5],
      [2, 6, 0, 8],
      [2, 5, 0, 10],
      [1, 4, 0, 20],
      [1, 5, 0, 16],
      [1, 6, 0, 16],
      [1, 6, 0, 17],
      [1, 8, 0, 0],
      [4, 6, 1, 4],
    ] as const;
    const plainVariants = [
      [4, 4, 0, 0],
      [4, 3, 0, 4],
      [4, 5, 0, 0],
      [2, 4, 0, 0],
      [2, 3, 0, 8],
      [1, 3, 0, 16],
      [1, 3, 0, 17],
      [1, 4, 0, 0],
      [4, 4, 1, 3],
    ] as const;
    for (const [WARPS, SLOTS, BALANCED, perSm] of fp8 ? fp8Variants : plainVariants) {
      if (batch * context < 2000 && BALANCED && batch !== 3) continue;
      if (fp8 && batch < 64) continue;
      const prepared = kvs.map((kv) =>
        decodeLaunch({ WARPS, SLOTS, BALANCED, KV_FP8, MIN_BLOCKS: BALANCED ? 0 : perSm }, perSm, {
          q,
          out,
          kv,
          items,
          blocks,
          partial,
          arrivals,
          batch,
          splitMin,
          splits,
        }),
      );
      const ms =
        time(() => {
          for (const p of prepared) launch(driver, p);
        }) / caches;
      let check = '';
      if (batch === 3 && !fp8) {
        const hq = download(q, batch * 4096);
        const hkv = download(kvs[0] as number, batch * perSequence * blockElements);
        const expected = Array.from({ length: batch }, (_, b) =>
          attentionReference(
            hq,
            (position, head, which, d) =>
              hkv[
                (unique[b * perSequence + (position >> 5)] as number) * blockElements +
                  which * kvHeads * 4096 +
                  head * 4096 +
                  (position & 31) * 128 +
                  d
              ] as number,
            heads,
            kvHeads,
            context - 1,
            b,
          ),
        ).flat();
        const own1 = kvs.slice(0, 1).map((kv) =>
          decodeLaunch({ WARPS, SLOTS, BALANCED, KV_FP8, MIN_BLOCKS: BALANCED ? 0 : perSm }, perSm, {
            q,
            out,
            kv,
            items,
            blocks,
            partial,
            arrivals,
            batch,
            splitMin,
            splits,
          }),
        );
        for (const p of own1) launch(driver, p);
        check = ` error ${relativeError(download(out, batch * 4096), expected).toExponential(1)}`;
      }
      line.push(
        `w${WARPS}s${SLOTS}${BALANCED ? 'b' : 'm'}${perSm} ${(ms * 1000).toFixed(1)} µs ${((batch * context * kvHeads * (512 >> KV_FP8)) / ms / 1e9).toFixed(2)} TB/s${check}`,
      );
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
  for (const [batch, context, before] of [
    [2, 150, 37],
    [16, 2048, 0],
    [4, 8192, 0],
  ] as const) {
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
    for (let b = 0; b < batch; b++)
      for (let r = 0; r < context; r += 128)
        list.push([b * context + r, Math.min(128, context - r), before + r, b * perSequence]);
    list.sort((x, y) => (y[2] as number) - (x[2] as number));
    const items = upload(Int32Array.from(list.flat()));
    const count = upload(Int32Array.of(list.length));
    const shared = (128 + 64 + 64) * 256;
    const kernel = gpu.modules.kernel('attention-prefill', 'attentionPrefill', {}, shared);
    const p = [
      pointer(q),
      pointer(out),
      pointer(kv),
      pointer(items),
      pointer(count),
      pointer(blocks),
      int(4096),
      int(4096),
      int(32),
      int(8),
      int(0),
      float(1 / Math.sqrt(128)),
      float(0),
    ];
    const prepared = prepare(kernel, [32, list.length, 1], 128, shared, p);
    const ms = time(() => launch(driver, prepared));
    let check = '';
    if (batch === 2) {
      const hq = download(q, batch * context * 4096);
      const hkv = download(kv, batch * perSequence * blockElements);
      const actual = download(out, batch * context * 4096);
      const got: number[] = [];
      const expected: number[] = [];
      for (const [b, r] of [
        [0, 0],
        [0, 149],
        [1, 64],
        [1, 127],
        [1, 128],
        [0, 33],
      ] as const) {
        const at = b * context + r;
        expected.push(
          ...attentionReference(
            hq,
            (position, head, which, d) =>
              hkv[
                (b * perSequence + (position >> 5)) * blockElements +
                  which * kvHeads * 4096 +
                  head * 4096 +
                  (position & 31) * 128 +
                  d
              ] as number,
            heads,
            kvHeads,
            before + r,
            at,
          ),
        );
        got.push(...actual.subarray(at * 4096, (at + 1) * 4096));
      }
      check = ` error ${relativeError(got, expected).toExponential(1)}`;
    }
    const flops = 4 * 128 * heads * batch * ((context * (context + 1)) / 2 + context * before);
    console.log(
      `prefill ${batch} × ${context}: ${ms.toFixed(3)} ms, ${(flops / ms / 1e9).toFixed(0)} TFLOP/s${check}`,
    );
    own.close();
  }
  console.log('clocks', clocks());
}
gpu.close();

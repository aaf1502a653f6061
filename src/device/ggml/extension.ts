import { f16ToF32, f32ToF16 } from '../../base/half.ts';

/**
 * Q4_1 as Q4_0 with extra columns.
 *
 * A Q4_1 block is `d·q + m` with q in 0..15, a Q4_0 block `d·(q − 8)`. ggml has fast repacked kernels for Q4_0 only, but
 * `Σ x·(d·q + m) = Σ x·d·(q − 8) + (m + 8d)·Σx`: the same nibbles read as Q4_0, plus one more weight `M = m + 8d` a block against the sum of
 * the block's inputs. Those weights become columns of the same matrix, and the block sums further inputs. Since a Q4_0 column has but four
 * bits, each M takes two columns: M rounded, and 16 times what is left, against the sum and a sixteenth of it. What remains is at most 1/256 of
 * the largest M among 16 neighbours: below the error of the 8-bit inputs that both kernels use.
 */
const blockElements = 32;
const q41BlockBytes = 20;
const q40BlockBytes = 18;
/** Columns that one block's M takes. */
const columnsPerBlock = 2;
const residualFactor = 16;

/** Columns that rows of `columns` elements get in addition: two a block, in whole blocks. */
export function extensionColumns(columns: number): number {
  const used = (columns / blockElements) * columnsPerBlock;
  return Math.ceil(used / blockElements) * blockElements;
}

/**
 * Blocks that are summed at once: 64 elements, since ggml's float32 dot product is vectorized in steps of 64 on AVX-512. A row of an odd number
 * of blocks is summed block by block.
 */
export function sumsPerGroup(columns: number): 1 | 2 {
  return columns % (2 * blockElements) === 0 ? 2 : 1;
}

/**
 * The matrix [32 · groupBlocks, 2 · groupBlocks] that turns `groupBlocks` blocks of inputs into each one's sum and a sixteenth of it, row-major
 * by output. {@link extendQ41} orders its columns to match.
 */
export function extensionSums(groupBlocks: 1 | 2): Float32Array {
  const width = blockElements * groupBlocks;
  const sums = new Float32Array(width * columnsPerBlock * groupBlocks);
  for (let block = 0; block < groupBlocks; block++) {
    const start = block * blockElements;
    const row = block * columnsPerBlock * width;
    sums.fill(1, row + start, row + start + blockElements);
    sums.fill(1 / residualFactor, row + width + start, row + width + start + blockElements);
  }
  return sums;
}

/**
 * Rewrites rows of Q4_1 as rows of Q4_0 with extension columns.
 * @param source whole Q4_1 rows of `columns` elements
 * @param target room for as many Q4_0 rows of `columns + extensionColumns(columns)` elements
 */
export function extendQ41(source: Uint8Array, target: Uint8Array, rows: number, columns: number): void {
  const blocks = columns / blockElements;
  const extensionBlocks = extensionColumns(columns) / blockElements;
  const from = halves(source);
  const to = halves(target);
  const offsets = new Float64Array(extensionBlocks * (blockElements / columnsPerBlock));
  let read = 0;
  let write = 0;
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const scale = from[read] ?? 0;
      offsets[block] = f16ToF32(from[read + 1] ?? 0) + 8 * f16ToF32(scale);
      to[write] = scale;
      for (let i = 0; i < 8; i++) to[write + 1 + i] = from[read + 2 + i] ?? 0;
      read += q41BlockBytes / 2;
      write += q40BlockBytes / 2;
    }
    for (let block = 0; block < extensionBlocks; block++) {
      writeOffsets(offsets, block * (blockElements / columnsPerBlock), to, write);
      write += q40BlockBytes / 2;
    }
  }
}

function halves(bytes: Uint8Array): Uint16Array {
  return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
}

const nibbles = new Uint8Array(blockElements);

/** One Q4_0 block of 16 offsets, each as its rounded value and its residual. */
function writeOffsets(offsets: Float64Array, start: number, to: Uint16Array, write: number): void {
  const count = blockElements / columnsPerBlock;
  let extreme = 0;
  for (let i = 0; i < count; i++) {
    const value = offsets[start + i] ?? 0;
    if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  }
  const half = f32ToF16(extreme / -8);
  const scale = f16ToF32(half);
  for (let i = 0; i < count; i++) {
    const value = offsets[start + i] ?? 0;
    const coarse = scale === 0 ? 8 : quantum(value / scale);
    const rest = (value - scale * (coarse - 8)) * residualFactor;
    nibbles[i * columnsPerBlock] = coarse;
    nibbles[i * columnsPerBlock + 1] = scale === 0 ? 8 : quantum(rest / scale);
  }
  to[write] = half;
  // Byte j holds element j in its low and element j + 16 in its high nibble.
  for (let i = 0; i < 8; i++) {
    const low = (nibbles[2 * i] as number) | ((nibbles[2 * i + 16] as number) << 4);
    const high = (nibbles[2 * i + 1] as number) | ((nibbles[2 * i + 17] as number) << 4);
    to[write + 1 + i] = low | (high << 8);
  }
}

/** The nearest of the 16 Q4_0 steps. */
function quantum(value: number): number {
  return Math.min(15, Math.max(0, Math.round(value) + 8));
}

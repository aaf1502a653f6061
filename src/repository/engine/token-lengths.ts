import type { LengthHistogram } from '../model.ts';

/** Triton's bounds of `nv_llm_input_token_len` and `nv_llm_output_token_len`. */
const bounds = [10, 50, 100, 500, 1000] as const;

/** A histogram of token counts. */
export class TokenLengths implements LengthHistogram {
  readonly bounds = bounds;
  /** Not cumulative; the last is beyond every bound. */
  readonly counts: number[] = Array.from({ length: bounds.length + 1 }, () => 0);
  sum = 0;

  add(length: number): void {
    const at = bounds.findIndex((bound) => length <= bound);
    const index = at < 0 ? bounds.length : at;
    this.counts[index] = (this.counts[index] ?? 0) + 1;
    this.sum += length;
  }
}

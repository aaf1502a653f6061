/**
 * The vocabulary of the network language. Shapes are row-major, outermost dimension first: `[tokens, width]`.
 * Which uses of an op are valid is checked by `spec.ts`; what it means is defined, in float32, by the reference device.
 */

/** Rotary position embedding, as `ggml_rope_ext` and Hugging Face's `rope_scaling` describe it. */
export interface RopeAttributes {
  /** Which pairs turn: neighbours (2i, 2i+1), as GGUF `llama` stores q and k, or halves (i, i + dimensions/2), as HF and Qwen do. */
  mode: 'interleaved' | 'half';
  /** Leading elements of a head that turn; the rest pass through. */
  dimensions: number;
  theta: number;
  /** Positions are multiplied by this (linear scaling by 4 is 0.25); 1 means none. */
  frequencyScale: number;
  yarn?: {
    originalContextLength: number;
    extrapolationFactor: number;
    attentionFactor: number;
    betaFast: number;
    betaSlow: number;
  };
}

/** Attention over the KV cache: the only op that reads or writes it. */
export interface AttentionAttributes {
  /** Index into the model's KV spec; queries of this layer see this layer's rows. */
  layer: number;
  heads: number;
  kvHeads: number;
  /** Elements of one query/key head, and of one value head. */
  headDimension: number;
  valueHeadDimension: number;
  /** Scores are multiplied by this before softmax. */
  scale: number;
  /** A query at position p sees keys at positions > p - window. Absent: all up to p. */
  window?: number;
  /** Scores become `softcap * tanh(score / softcap)` before masking. */
  softcap?: number;
}

/**
 * Attributes by op. Inputs in brackets: `?` marks an optional trailing one.
 *
 * | op | inputs | result |
 * |---|---|---|
 * | input | – | as declared; named value of the batch |
 * | weight | – | as declared; named tensor of the engine |
 * | embedding | table [V, W], ids [T] i32 | [T, W] f32 |
 * | linear | x [T, in], weight [out, in], bias? [out] | [T, out] |
 * | rmsNorm | x [.., W], weight [W] | same as x |
 * | layerNorm | x [.., W], weight [W], bias? [W] | same as x |
 * | add, multiply | a, b (same shape, or b broadcast over a's leading dimensions) | same as a |
 * | scale | x | factor · x |
 * | silu, gelu, relu, tanh, sigmoid | x | same |
 * | swiglu, geglu | gate, up (same shape) | act(gate) · up |
 * | rope | x [T, H, D], positions [T] i32, frequencyFactors? [dimensions/2] | same as x |
 * | attention | q [T, H, D], k [T, KV, D], v [T, KV, DV] | [T, H·DV]; k and v are appended to the cache first |
 * | reshape | x | new shape, same order |
 * | rows | x [T, W], indices [R] i32 | [R, W] |
 * | slice | x | x restricted to [start, end) on axis |
 * | concat | a, b, … | joined on axis |
 * | softmax | x | over the last dimension |
 * | allReduce | x | sum over the ranks of a tensor-parallel group |
 * | allGather | x [R, widths[rank]] | [R, sum of widths]: every rank's columns, in rank order |
 */
export interface OpAttributes {
  input: { name: string };
  weight: { name: string };
  embedding: Record<never, never>;
  /**
   * `parts` names the logical linears stacked in `weight`'s rows, so that LoRA still binds to each after q/k/v were fused;
   * one part means an unfused linear. `split` says how tensor parallelism cuts it.
   */
  linear: { parts: readonly { name: string; rows: number }[]; split?: 'column' | 'row' };
  rmsNorm: { epsilon: number };
  layerNorm: { epsilon: number };
  add: Record<never, never>;
  multiply: Record<never, never>;
  scale: { factor: number };
  silu: Record<never, never>;
  gelu: { approximation: 'tanh' | 'erf' | 'quick' };
  relu: Record<never, never>;
  tanh: Record<never, never>;
  sigmoid: Record<never, never>;
  swiglu: Record<never, never>;
  geglu: { approximation: 'tanh' | 'erf' | 'quick' };
  rope: RopeAttributes;
  attention: AttentionAttributes;
  reshape: { shape: readonly number[] };
  rows: Record<never, never>;
  slice: { axis: number; start: number; end: number };
  concat: { axis: number };
  softmax: Record<never, never>;
  allReduce: Record<never, never>;
  /** `widths` are each rank's columns; `rank` is the one that this graph is recorded for. */
  allGather: { widths: readonly number[]; rank: number };
}

export type Op = keyof OpAttributes;

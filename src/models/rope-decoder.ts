import { definite } from '../base/errors.ts';
import type { BatchInputs, GraphBuilder, Value } from '../graph/builder.ts';
import type { KvSpec } from '../graph/graph.ts';
import type { RopeAttributes } from '../graph/ops.ts';
import type { GraphWeights } from './graph-weights.ts';
import { type Hyperparameters, windowOf } from './hyperparameters.ts';
import {
  columnLinear,
  type DecodeOutputs,
  decoderEnd,
  isLastStage,
  kvLayerOf,
  rowLinear,
  stageInput,
  stageLayers,
} from './parallel.ts';
import { llama3FrequencyFactors, ropeAttributes } from './rope.ts';
import {
  feedForwardWidth,
  kvWidth,
  type LinearRow,
  linearRows,
  outputRows,
  queryWidth,
  splits,
  vectorRow,
  type WeightRow,
  width,
} from './weight-map.ts';

/** Where the rotary, RMS-normed, gated decoders (Llama, Mistral, Qwen 2 and 3, SmolLM) differ from each other. */
export interface RopeDecoderOptions {
  ropeMode: RopeAttributes['mode'];
  /** q and k are RMS-normed head by head before they turn (Qwen 3). */
  queryKeyNorm: boolean;
  attentionBias: LinearRow['bias'];
}

/** A pre-norm decoder with rotary attention and a gated feed-forward. */
export function decodeRopeDecoder(
  g: GraphBuilder,
  p: Hyperparameters,
  w: GraphWeights,
  batch: BatchInputs,
  options: RopeDecoderOptions,
): DecodeOutputs {
  let x = stageInput(g, p, batch, () => g.embedding(w.tensor('embedding.weight'), batch.tokens));
  for (const layer of stageLayers(p)) {
    const name = `layers.${layer}`;
    const normed = g.rmsNorm(x, w.tensor(`${name}.attentionNorm.weight`), p.normEpsilon);
    let attended = selfAttention(g, p, w, batch, options, layer, normed);
    if (layer === p.layers - 1) {
      // Nothing after the last layer's KV mixes rows, so only those whose logits are wanted go on.
      attended = g.rows(attended, batch.outputRows);
      x = g.rows(x, batch.outputRows);
    }
    x = g.add(x, rowLinear(g, p, attended, w.linear(`${name}.attention.o`)));
    const h = g.rmsNorm(x, w.tensor(`${name}.feedForwardNorm.weight`), p.normEpsilon);
    const gate = columnLinear(g, p, h, w.linear(`${name}.feedForward.gate`));
    const up = columnLinear(g, p, h, w.linear(`${name}.feedForward.up`));
    x = g.add(x, rowLinear(g, p, g.swiglu(gate, up), w.linear(`${name}.feedForward.down`)));
  }
  if (!isLastStage(p)) return { hidden: x };
  return decoderEnd(g, p, batch, g.rmsNorm(x, w.tensor('norm.weight'), p.normEpsilon), w.linear('output'));
}

function selfAttention(
  g: GraphBuilder,
  p: Hyperparameters,
  w: GraphWeights,
  batch: BatchInputs,
  options: RopeDecoderOptions,
  layer: number,
  x: Value,
): Value {
  const name = `layers.${layer}.attention`;
  const attributes = ropeAttributes(definite(p.rope, 'rope'), options.ropeMode);
  const factors = w.optional('ropeFrequencyFactors');
  const turned = (part: 'q' | 'k', heads: number): Value => {
    let y = g.heads(columnLinear(g, p, x, w.linear(`${name}.${part}`)), heads);
    if (options.queryKeyNorm) y = g.rmsNorm(y, w.tensor(`${name}.${part}Norm.weight`), p.normEpsilon);
    return g.rope(y, batch.positions, attributes, factors);
  };
  const q = turned('q', p.heads);
  const k = turned('k', p.kvHeads);
  const v = g.heads(columnLinear(g, p, x, w.linear(`${name}.v`)), p.kvHeads);
  const window = windowOf(p, layer);
  return g.attention(q, k, v, {
    layer: kvLayerOf(p, layer),
    heads: p.heads,
    kvHeads: p.kvHeads,
    headDimension: p.headDimension,
    valueHeadDimension: p.headDimension,
    scale: 1 / Math.sqrt(p.headDimension),
    ...(window !== undefined && { window }),
  });
}

/** Keys and values of every layer of this stage. */
export function decoderKv(p: Hyperparameters): KvSpec {
  const elements = kvWidth(p);
  const layers = stageLayers(p).map((layer) => {
    const window = windowOf(p, layer);
    const spec = { kind: 'self' as const, keyElements: elements, valueElements: elements };
    return window === undefined ? spec : { ...spec, window };
  });
  return { layers };
}

/** The weight map of these families under Hugging Face's and llama.cpp's names. */
export function ropeDecoderWeights(options: RopeDecoderOptions): WeightRow[] {
  return [
    {
      logical: 'embedding.weight',
      hf: 'model.embed_tokens.weight',
      gguf: 'token_embd.weight',
      shape: (p) => [p.vocabularySize, p.width],
      stage: 'first',
    },
    {
      logical: 'ropeFrequencyFactors',
      gguf: 'rope_freqs.weight',
      shape: (p) => [definite(p.rope, 'rope').dimensions / 2],
      presence: 'optional',
      compute: (p) => p.rope && llama3FrequencyFactors(p.rope),
    },
    ...attentionRows(options),
    ...feedForwardRows(),
    { ...vectorRow('norm.weight', 'model.norm.weight', 'output_norm.weight', width), stage: 'last' },
    {
      logical: 'output.weight',
      hf: 'lm_head.weight',
      gguf: 'output.weight',
      shape: (p) => [outputRows(p), p.width],
      presence: 'tied',
      split: splits.vocabulary(),
      stage: 'last',
    },
  ];
}

function attentionRows({ ropeMode, queryKeyNorm, attentionBias }: RopeDecoderOptions): WeightRow[] {
  const hf = 'model.layers.{i}.self_attn';
  const logical = 'layers.{i}.attention';
  // GGUF stores rotary pairs of `llama` as neighbours; of other architectures as Hugging Face does.
  const transform = ropeMode === 'interleaved' ? { transform: 'ropePermutation' as const } : {};
  const projection = { columns: width, bias: attentionBias };
  const headNorm = (p: Hyperparameters) => p.headDimension;
  const rows: WeightRow[] = [
    vectorRow(
      'layers.{i}.attentionNorm.weight',
      'model.layers.{i}.input_layernorm.weight',
      'blk.{i}.attn_norm.weight',
      width,
    ),
    ...linearRows({
      ...projection,
      logical: `${logical}.q`,
      hf: `${hf}.q_proj`,
      gguf: 'blk.{i}.attn_q',
      rows: queryWidth,
      ...transform,
      heads: (p) => p.heads,
      split: splits.queryHeads(0),
    }),
    ...linearRows({
      ...projection,
      logical: `${logical}.k`,
      hf: `${hf}.k_proj`,
      gguf: 'blk.{i}.attn_k',
      rows: kvWidth,
      ...transform,
      heads: (p) => p.kvHeads,
      split: splits.kvHeads(0),
    }),
    ...linearRows({
      ...projection,
      logical: `${logical}.v`,
      hf: `${hf}.v_proj`,
      gguf: 'blk.{i}.attn_v',
      rows: kvWidth,
      split: splits.kvHeads(0),
    }),
    ...linearRows({
      logical: `${logical}.o`,
      hf: `${hf}.o_proj`,
      gguf: 'blk.{i}.attn_output',
      rows: width,
      columns: queryWidth,
      bias: 'optional',
      split: splits.queryHeads(1),
    }),
  ];
  if (!queryKeyNorm) return rows;
  rows.push(
    vectorRow(`${logical}.qNorm.weight`, `${hf}.q_norm.weight`, 'blk.{i}.attn_q_norm.weight', headNorm),
    vectorRow(`${logical}.kNorm.weight`, `${hf}.k_norm.weight`, 'blk.{i}.attn_k_norm.weight', headNorm),
  );
  return rows;
}

function feedForwardRows(): WeightRow[] {
  const hf = 'model.layers.{i}.mlp';
  const logical = 'layers.{i}.feedForward';
  const bias = 'optional' as const;
  const into = { rows: feedForwardWidth, columns: width, bias, split: splits.feedForward(0) };
  const out = { rows: width, columns: feedForwardWidth, bias, split: splits.feedForward(1) };
  return [
    vectorRow(
      'layers.{i}.feedForwardNorm.weight',
      'model.layers.{i}.post_attention_layernorm.weight',
      'blk.{i}.ffn_norm.weight',
      width,
    ),
    ...linearRows({ ...into, logical: `${logical}.gate`, hf: `${hf}.gate_proj`, gguf: 'blk.{i}.ffn_gate' }),
    ...linearRows({ ...into, logical: `${logical}.up`, hf: `${hf}.up_proj`, gguf: 'blk.{i}.ffn_up' }),
    ...linearRows({ ...out, logical: `${logical}.down`, hf: `${hf}.down_proj`, gguf: 'blk.{i}.ffn_down' }),
  ];
}

import type { BatchInputs, GraphBuilder, Value } from '../graph/builder.ts';
import type { Architecture } from './architecture.ts';
import { Config } from './config.ts';
import type { GraphWeights } from './graph-weights.ts';
import type { Hyperparameters } from './hyperparameters.ts';
import { type MetadataOptions, readMetadata, writeMetadata } from './metadata.ts';
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
import { decoderKv } from './rope-decoder.ts';
import {
  feedForwardWidth,
  type LinearRow,
  linearRows,
  outputRows,
  queryWidth,
  splits,
  type TensorSplit,
  vectorRow,
  type WeightRow,
  width,
} from './weight-map.ts';

const metadata: MetadataOptions = { architecture: 'gpt2', ggufName: 'gpt2', norm: 'layer', rope: false };

/** GPT-2: learned positions, LayerNorm, one fused q/k/v with bias, GELU. */
export const architecture: Architecture = {
  name: 'gpt2',
  names: ['GPT2LMHeadModel'],
  ggufName: 'gpt2',
  hfPrefix: 'transformer.',
  hyperparameters: (record) => hyperparametersFromConfig(new Config(record)),
  hyperparametersFromGguf: (reader) => readMetadata(reader, metadata),
  ggufMetadata: (p) => writeMetadata(p, metadata),
  weights: weightRows(),
  kv: decoderKv,
  graphs: { decode },
};

function hyperparametersFromConfig(config: Config): Hyperparameters {
  config.oneOf('activation_function', 'gelu_new', ['gelu_new', 'gelu_pytorch_tanh']);
  if (!config.boolean('scale_attn_weights', true)) {
    throw config.unsupported('scale_attn_weights', 'false', 'scores are scaled by 1/sqrt(head size)');
  }
  if (config.boolean('scale_attn_by_inverse_layer_idx', false)) {
    throw config.unsupported('scale_attn_by_inverse_layer_idx', 'true', 'no layer has a scale of its own');
  }
  const modelWidth = config.count('n_embd');
  const heads = config.count('n_head');
  if (modelWidth % heads !== 0) {
    throw config.unsupported('n_head', `${heads}`, `it must divide the width of ${modelWidth}`);
  }
  return {
    architecture: 'gpt2',
    layers: config.count('n_layer'),
    width: modelWidth,
    heads,
    kvHeads: heads,
    headDimension: modelWidth / heads,
    feedForwardWidth: config.count('n_inner', 4 * modelWidth),
    vocabularySize: config.count('vocab_size'),
    contextLength: config.has('n_positions') ? config.count('n_positions') : config.count('n_ctx'),
    normEpsilon: config.positive('layer_norm_epsilon', 1e-5),
    tiedEmbeddings: config.boolean('tie_word_embeddings', true),
  };
}

/** A LayerNorm's weight and bias. */
function normRows(logical: string, hf: string, gguf: string): WeightRow[] {
  return [
    vectorRow(`${logical}.weight`, `${hf}.weight`, `${gguf}.weight`, width),
    vectorRow(`${logical}.bias`, `${hf}.bias`, `${gguf}.bias`, width),
  ];
}

function weightRows(): WeightRow[] {
  return [
    {
      logical: 'embedding.weight',
      hf: 'transformer.wte.weight',
      gguf: 'token_embd.weight',
      shape: (p) => [p.vocabularySize, p.width],
      stage: 'first',
    },
    {
      logical: 'positionEmbedding.weight',
      hf: 'transformer.wpe.weight',
      gguf: 'position_embd.weight',
      shape: (p) => [p.contextLength, p.width],
      stage: 'first',
    },
    ...layerRows(),
    ...normRows('norm', 'transformer.ln_f', 'output_norm').map((row) => ({ ...row, stage: 'last' as const })),
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

/** q, k and v in one matrix. */
function fusedWidth(p: Hyperparameters): number {
  return 3 * queryWidth(p);
}

function layerRows(): WeightRow[] {
  const layer = 'layers.{i}';
  const hf = 'transformer.h.{i}';
  const linear = (
    logical: string,
    hfName: string,
    gguf: string,
    rows: LinearRow['rows'],
    columns: LinearRow['columns'],
    split: TensorSplit,
  ): WeightRow[] =>
    linearRows({
      logical: `${layer}.${logical}`,
      hf: `${hf}.${hfName}`,
      gguf: `blk.{i}.${gguf}`,
      rows,
      columns,
      bias: 'required',
      // Conv1D keeps its matrix as [in, out].
      transform: 'transpose',
      split,
    });
  return [
    ...normRows(`${layer}.attentionNorm`, `${hf}.ln_1`, 'blk.{i}.attn_norm'),
    ...linear('attention.qkv', 'attn.c_attn', 'attn_qkv', fusedWidth, width, splits.fusedHeads()),
    ...linear('attention.o', 'attn.c_proj', 'attn_output', width, queryWidth, splits.queryHeads(1)),
    ...normRows(`${layer}.feedForwardNorm`, `${hf}.ln_2`, 'blk.{i}.ffn_norm'),
    ...linear('feedForward.up', 'mlp.c_fc', 'ffn_up', feedForwardWidth, width, splits.feedForward(0)),
    ...linear('feedForward.down', 'mlp.c_proj', 'ffn_down', width, feedForwardWidth, splits.feedForward(1)),
  ];
}

function decode(g: GraphBuilder, p: Hyperparameters, w: GraphWeights, batch: BatchInputs): DecodeOutputs {
  const norm = (x: Value, name: string) =>
    g.layerNorm(x, w.tensor(`${name}.weight`), w.tensor(`${name}.bias`), p.normEpsilon);
  let x = stageInput(g, p, batch, () => {
    const positions = g.embedding(w.tensor('positionEmbedding.weight'), batch.positions);
    return g.add(g.embedding(w.tensor('embedding.weight'), batch.tokens), positions);
  });
  for (const layer of stageLayers(p)) {
    const name = `layers.${layer}`;
    let attended = selfAttention(g, p, w, layer, norm(x, `${name}.attentionNorm`));
    if (layer === p.layers - 1) {
      // Nothing after the last layer's KV mixes rows, so only those whose logits are wanted go on.
      attended = g.rows(attended, batch.outputRows);
      x = g.rows(x, batch.outputRows);
    }
    x = g.add(x, rowLinear(g, p, attended, w.linear(`${name}.attention.o`)));
    const up = columnLinear(g, p, norm(x, `${name}.feedForwardNorm`), w.linear(`${name}.feedForward.up`));
    x = g.add(x, rowLinear(g, p, g.gelu(up, 'tanh'), w.linear(`${name}.feedForward.down`)));
  }
  if (!isLastStage(p)) return { hidden: x };
  return decoderEnd(g, p, batch, norm(x, 'norm'), w.linear('output'));
}

function selfAttention(g: GraphBuilder, p: Hyperparameters, w: GraphWeights, layer: number, x: Value): Value {
  const qkv = columnLinear(g, p, x, w.linear(`layers.${layer}.attention.qkv`));
  const rows = queryWidth(p);
  const part = (index: number) => g.heads(g.slice(qkv, 1, index * rows, (index + 1) * rows), p.heads);
  return g.attention(part(0), part(1), part(2), {
    layer: kvLayerOf(p, layer),
    heads: p.heads,
    kvHeads: p.heads,
    headDimension: p.headDimension,
    valueHeadDimension: p.headDimension,
    scale: 1 / Math.sqrt(p.headDimension),
  });
}

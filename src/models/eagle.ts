import { definite } from '../base/errors.ts';
import { GraphBuilder } from '../graph/builder.ts';
import type { BatchShape, Graph } from '../graph/graph.ts';
import { Config, type JsonRecord } from './config.ts';
import { decoderFromConfig } from './decoder-config.ts';
import { ModelError } from './errors.ts';
import { GraphWeights, type StoredWeight } from './graph-weights.ts';
import type { Hyperparameters } from './hyperparameters.ts';
import { decoderEnd } from './parallel.ts';
import { ropeAttributes } from './rope.ts';
import { decoderKv } from './rope-decoder.ts';
import type { ModelSource } from './source.ts';

/** Hugging Face's class name (`config.json`, `architectures[0]`) of a head. */
export const eagleArchitecture = 'EagleLlamaForCausalLM';

/** Logical names of what a head takes from its target model. */
export const eagleBorrowed = { embedding: 'embedding.weight', output: 'output.weight' } as const;

const layer = 'layers.0';

/** A head's own matrices and vectors with their shapes, under the names of its files. */
function shapesOf(p: Hyperparameters): Readonly<Record<string, readonly number[]>> {
  const { width, headDimension, feedForwardWidth } = p;
  const [queries, keys] = [p.heads * headDimension, p.kvHeads * headDimension];
  return {
    'fc.weight': [width, 2 * width],
    [`${layer}.input_layernorm.weight`]: [width],
    [`${layer}.self_attn.q_proj.weight`]: [queries, width],
    [`${layer}.self_attn.k_proj.weight`]: [keys, width],
    [`${layer}.self_attn.v_proj.weight`]: [keys, width],
    [`${layer}.self_attn.o_proj.weight`]: [width, queries],
    [`${layer}.post_attention_layernorm.weight`]: [width],
    [`${layer}.mlp.gate_proj.weight`]: [feedForwardWidth, width],
    [`${layer}.mlp.up_proj.weight`]: [feedForwardWidth, width],
    [`${layer}.mlp.down_proj.weight`]: [width, feedForwardWidth],
    'norm.weight': [width],
  };
}

/** Reads a head's numbers. @throws ModelError naming the field of config.json */
export function eagleHyperparameters(record: JsonRecord): Hyperparameters {
  const p = decoderFromConfig(new Config(record), 'llama');
  if (p.layers === 1) return p;
  throw new ModelError(
    'MODEL_CONFIG_INVALID',
    `num_hidden_layers is ${p.layers}; an EAGLE head has one layer`,
  );
}

/**
 * An EAGLE-style draft head (Li et al. 2024): one decoder layer over a token's embedding and the target's final hidden state before it. It takes `hidden` [T, width] beside
 * the tokens; its own `hidden` stands for the target's next one, and the target's output matrix makes logits of it.
 * @param own the head's tensors, by the names of its files
 * @param borrowed the target's, by {@link eagleBorrowed}'s logical names
 * @throws ModelError naming a tensor that is missing or has another shape
 */
export function eagleSource<W extends StoredWeight>(
  p: Hyperparameters,
  own: ReadonlyMap<string, W>,
  borrowed: ReadonlyMap<string, W>,
): ModelSource<W> {
  const bound = new Map<string, W>(borrowed);
  for (const [name, shape] of Object.entries(shapesOf(p))) {
    const tensor = own.get(name);
    if (!tensor || tensor.shape.join() !== shape.join()) {
      const found = tensor ? `has the shape [${tensor.shape}]` : 'is missing';
      throw new ModelError(
        'MODEL_WEIGHT_INVALID',
        `the draft head's tensor '${name}' ${found}; it must be [${shape}]`,
      );
    }
    bound.set(name, tensor);
  }
  return {
    record: (shape) => record(p, bound, shape),
    weights: new Map([...bound.values()].map((tensor) => [tensor.name, tensor])),
    kv: decoderKv(p),
    hiddenWidth: p.width,
    vocabularySize: p.vocabularySize,
    contextLength: p.contextLength,
  };
}

function record<W extends StoredWeight>(
  p: Hyperparameters,
  bound: ReadonlyMap<string, W>,
  shape: BatchShape,
): Graph {
  const g = new GraphBuilder();
  const batch = g.batch(shape);
  const w = new GraphWeights(g, bound);
  const hidden = g.input('hidden', [shape.tokens, p.width], 'f32');
  const embedded = g.embedding(w.tensor(eagleBorrowed.embedding), batch.tokens);
  let x = g.linear(g.concat([embedded, hidden], 1), w.linear('fc'));
  const normed = g.rmsNorm(x, w.tensor(`${layer}.input_layernorm.weight`), p.normEpsilon);
  const rope = ropeAttributes(definite(p.rope, 'rope'), 'half');
  const projected = (part: 'q' | 'k' | 'v', heads: number) =>
    g.heads(g.linear(normed, w.linear(`${layer}.self_attn.${part}_proj`)), heads);
  const q = g.rope(projected('q', p.heads), batch.positions, rope);
  const k = g.rope(projected('k', p.kvHeads), batch.positions, rope);
  const attended = g.attention(q, k, projected('v', p.kvHeads), {
    layer: 0,
    heads: p.heads,
    kvHeads: p.kvHeads,
    headDimension: p.headDimension,
    valueHeadDimension: p.headDimension,
    scale: 1 / Math.sqrt(p.headDimension),
  });
  const o = w.linear(`${layer}.self_attn.o_proj`);
  x = g.add(g.rows(x, batch.outputRows), g.linear(g.rows(attended, batch.outputRows), o));
  const h = g.rmsNorm(x, w.tensor(`${layer}.post_attention_layernorm.weight`), p.normEpsilon);
  const gate = g.linear(h, w.linear(`${layer}.mlp.gate_proj`));
  const up = g.linear(h, w.linear(`${layer}.mlp.up_proj`));
  x = g.add(x, g.linear(g.swiglu(gate, up), w.linear(`${layer}.mlp.down_proj`)));
  const made = g.rmsNorm(x, w.tensor('norm.weight'), p.normEpsilon);
  const { logits, hidden: next } = decoderEnd(g, p, batch, made, w.linear('output'));
  return g.finish({ ...(logits && { logits }), ...(next && { hidden: next }) });
}

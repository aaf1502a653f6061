import { definite } from '../base/errors.ts';
import type { DType } from './dtype.ts';
import { GraphError } from './errors.ts';
import type { BatchShape, Graph, GraphNode, Shape } from './graph.ts';
import { inferType } from './infer.ts';
import type { AttentionAttributes, Op, OpAttributes, RopeAttributes } from './ops.ts';
import { sameShape } from './rules.ts';

/** A recorded result, ready to be another op's input. */
export type Value = GraphNode;

/** A logical linear layer: its name (LoRA binds to it), its [out, in] weight and its [out] bias. */
export interface LinearWeights {
  name: string;
  weight: Value;
  bias?: Value;
}

/** The named inputs of a `decode` graph. */
export interface BatchInputs {
  shape: BatchShape;
  /** [T] i32 token ids. */
  tokens: Value;
  /** [T] i32 positions within each row's sequence. */
  positions: Value;
  /** [R] i32 rows whose logits (or final hidden states) are wanted. */
  outputRows: Value;
}

/** Records ops into a {@link Graph}. Every method checks its inputs at once, so an error's stack points at the line that recorded it. */
export class GraphBuilder {
  readonly #nodes: GraphNode[] = [];
  readonly #named = new Map<string, Value>();

  /** Declares the inputs that every `decode` graph takes. */
  batch(shape: BatchShape): BatchInputs {
    return {
      shape,
      tokens: this.input('tokens', [shape.tokens], 'i32'),
      positions: this.input('positions', [shape.tokens], 'i32'),
      outputRows: this.input('outputRows', [shape.outputRows], 'i32'),
    };
  }

  input(name: string, shape: Shape, dtype: DType): Value {
    return this.#declare('input', name, shape, dtype);
  }

  /** A tensor of the engine; asking twice gives the same node. */
  weight(name: string, shape: Shape, dtype: DType): Value {
    return this.#declare('weight', name, shape, dtype);
  }

  embedding(table: Value, ids: Value): Value {
    return this.#record('embedding', [table, ids], {});
  }

  linear(x: Value, weights: LinearWeights, split?: 'column' | 'row'): Value {
    const { name, weight, bias } = weights;
    const parts = [{ name, rows: definite(weight.shape[0], 'rows of a linear weight') }];
    const inputs = bias ? [x, weight, bias] : [x, weight];
    return this.#record('linear', inputs, split ? { parts, split } : { parts });
  }

  rmsNorm(x: Value, weight: Value, epsilon: number): Value {
    return this.#record('rmsNorm', [x, weight], { epsilon });
  }

  layerNorm(x: Value, weight: Value, bias: Value | undefined, epsilon: number): Value {
    return this.#record('layerNorm', bias ? [x, weight, bias] : [x, weight], { epsilon });
  }

  add(a: Value, b: Value): Value {
    return this.#record('add', [a, b], {});
  }

  multiply(a: Value, b: Value): Value {
    return this.#record('multiply', [a, b], {});
  }

  scale(x: Value, factor: number): Value {
    return this.#record('scale', [x], { factor });
  }

  silu(x: Value): Value {
    return this.#record('silu', [x], {});
  }

  gelu(x: Value, approximation: OpAttributes['gelu']['approximation']): Value {
    return this.#record('gelu', [x], { approximation });
  }

  relu(x: Value): Value {
    return this.#record('relu', [x], {});
  }

  tanh(x: Value): Value {
    return this.#record('tanh', [x], {});
  }

  sigmoid(x: Value): Value {
    return this.#record('sigmoid', [x], {});
  }

  swiglu(gate: Value, up: Value): Value {
    return this.#record('swiglu', [gate, up], {});
  }

  geglu(gate: Value, up: Value, approximation: OpAttributes['geglu']['approximation']): Value {
    return this.#record('geglu', [gate, up], { approximation });
  }

  rope(x: Value, positions: Value, attributes: RopeAttributes, frequencyFactors?: Value): Value {
    return this.#record(
      'rope',
      frequencyFactors ? [x, positions, frequencyFactors] : [x, positions],
      attributes,
    );
  }

  attention(q: Value, k: Value, v: Value, attributes: AttentionAttributes): Value {
    return this.#record('attention', [q, k, v], attributes);
  }

  reshape(x: Value, shape: Shape): Value {
    return this.#record('reshape', [x], { shape });
  }

  /** [T, heads · D] → [T, heads, D]. */
  heads(x: Value, heads: number): Value {
    const [tokens = 0, width = 0] = x.shape;
    return this.reshape(x, [tokens, heads, width / heads]);
  }

  rows(x: Value, indices: Value): Value {
    return this.#record('rows', [x, indices], {});
  }

  slice(x: Value, axis: number, start: number, end: number): Value {
    return this.#record('slice', [x], { axis, start, end });
  }

  concat(inputs: readonly Value[], axis: number): Value {
    return this.#record('concat', inputs, { axis });
  }

  softmax(x: Value): Value {
    return this.#record('softmax', [x], {});
  }

  allReduce(x: Value): Value {
    return this.#record('allReduce', [x], {});
  }

  /** [R, widths[rank]] → [R, sum of widths]. */
  allGather(x: Value, widths: readonly number[], rank: number): Value {
    return this.#record('allGather', [x], { widths, rank });
  }

  /** The finished graph. */
  finish(outputs: Readonly<Record<string, Value>>): Graph {
    const ids = Object.entries(outputs).map(([name, value]) => [name, this.#own(value).id] as const);
    return { nodes: this.#nodes, outputs: Object.fromEntries(ids) };
  }

  #declare(op: 'input' | 'weight', name: string, shape: Shape, dtype: DType): Value {
    const key = `${op} ${name}`;
    const known = this.#named.get(key);
    if (!known) {
      const value = this.#push({
        id: this.#nodes.length,
        op,
        inputs: [],
        attributes: { name },
        shape,
        dtype,
      });
      this.#named.set(key, value);
      return value;
    }
    if (known.dtype === dtype && sameShape(known.shape, shape)) return known;
    const message = `${op} '${name}' is declared twice, as ${known.dtype}[${known.shape}] and ${dtype}[${shape}]`;
    throw new GraphError('GRAPH_STRUCTURE_INVALID', message);
  }

  #record<O extends Exclude<Op, 'input' | 'weight'>>(
    op: O,
    inputs: readonly Value[],
    attributes: OpAttributes[O],
  ): Value {
    const { shape, dtype } = inferType(op, inputs, attributes);
    const ids = inputs.map((input) => this.#own(input).id);
    // The compiler cannot see that `op` and `attributes` belong together once O is a union.
    return this.#push({
      id: this.#nodes.length,
      op,
      inputs: ids,
      attributes,
      shape,
      dtype,
    } as unknown as GraphNode);
  }

  #push(node: GraphNode): Value {
    this.#nodes.push(node);
    return node;
  }

  #own(value: Value): Value {
    if (this.#nodes[value.id] === value) return value;
    throw new GraphError(
      'GRAPH_STRUCTURE_INVALID',
      `node ${value.id} (${value.op}) belongs to another graph`,
    );
  }
}

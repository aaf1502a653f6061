import { definite } from '../../base/errors.ts';
import type { Graph, GraphNode } from '../../graph/graph.ts';
import type { Op } from '../../graph/ops.ts';
import { elementCount, rowLength } from '../../graph/rules.ts';
import type { Collective } from '../collective/collective.ts';
import { DeviceError } from '../errors.ts';
import type { Pending } from '../pending.ts';
import type { RowAdapters } from './adapters.ts';
import type { KvBlocks } from './kv-blocks.ts';
import { attention, type Segment } from './ops/attention.ts';
import { geluOf, map, relu, sigmoid, silu, zip } from './ops/elementwise.ts';
import { linear, takeRows } from './ops/linear.ts';
import { layerNorm, rmsNorm, softmax } from './ops/normalize.ts';
import { concat, slice } from './ops/rearrange.ts';
import { rope } from './ops/rope.ts';
import type { ReferenceWeights } from './weights.ts';

/** What a graph's evaluation reads besides its nodes. */
export interface EvaluationContext {
  /** Integer inputs by name: `tokens`, `positions`, `outputRows`. */
  integers: Readonly<Record<string, Int32Array>>;
  /** Float inputs by name, for graphs that take any. */
  floats?: Readonly<Record<string, Float32Array>>;
  weights: ReferenceWeights;
  segments: readonly Segment[];
  kv: KvBlocks;
  /** The other ranks of a tensor-parallel group. */
  collective?: Collective;
  /** What the rows' adapters add to linears; absent where no row has one. */
  adapters?: RowAdapters | undefined;
}

/** The named outputs of a graph. */
export type Outputs = Record<string, Float32Array>;

/**
 * Computes every node in order. Gives a promise only where it has to wait for other ranks.
 * @throws DeviceError naming an input that was not given, or an op that needs a group where there is none
 */
export function evaluate(graph: Graph, context: EvaluationContext): Pending<Outputs> {
  return evaluateFrom(0, new Results(graph), context);
}

function evaluateFrom(first: number, results: Results, context: EvaluationContext): Pending<Outputs> {
  const { nodes, outputs } = results.graph;
  for (let id = first; id < nodes.length; id++) {
    const node = results.node(id);
    if (node.dtype === 'i32') continue;
    if (node.op !== 'allReduce' && node.op !== 'allGather') {
      results.set(id, compute(node, results, context));
      continue;
    }
    const { values, done } = exchange(node, results, context);
    results.set(id, values);
    if (done) return done.then(() => evaluateFrom(id + 1, results, context));
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, id]) => [name, results.floats(id)]));
}

/** @returns what an op over all ranks gives: whole as soon as `done` is, at once without it */
function exchange(
  node: Extract<GraphNode, { op: 'allReduce' | 'allGather' }>,
  results: Results,
  { collective }: EvaluationContext,
): { values: Float32Array; done: Promise<void> | undefined } {
  const own = results.floats(node.inputs[0]);
  if (!collective) {
    const problem = `${node.op} is computed by a group of ranks, and this model was loaded alone`;
    throw new DeviceError('DEVICE_OP_UNSUPPORTED', `${problem}: start all ranks of the engine`);
  }
  if (node.op === 'allReduce') {
    const values = own.slice();
    return { values, done: collective.allReduce(values) ?? undefined };
  }
  const values = new Float32Array(elementCount(node.shape));
  return { values, done: collective.allGather(own, node.attributes.widths, values) ?? undefined };
}

/** What the nodes came to, by id. */
class Results {
  readonly graph: Graph;
  readonly #values: Float32Array[] = [];

  constructor(graph: Graph) {
    this.graph = graph;
  }

  set(id: number, values: Float32Array): void {
    this.#values[id] = values;
  }

  floats(id: number | undefined): Float32Array {
    return definite(this.#values[id ?? -1], `result of node ${id}`);
  }

  node(id: number | undefined): GraphNode {
    return definite(this.graph.nodes[id ?? -1], `node ${id}`);
  }
}

/** A node with its inputs at hand. */
class Operands {
  readonly #node: GraphNode;
  readonly #results: Results;
  readonly context: EvaluationContext;

  constructor(node: GraphNode, results: Results, context: EvaluationContext) {
    this.#node = node;
    this.#results = results;
    this.context = context;
  }

  floats(index: number): Float32Array {
    return this.#results.floats(this.#node.inputs[index]);
  }

  optional(index: number): Float32Array | undefined {
    return index < this.#node.inputs.length ? this.floats(index) : undefined;
  }

  shape(index: number): readonly number[] {
    return this.#results.node(this.#node.inputs[index]).shape;
  }

  integers(index: number): Int32Array {
    const node = this.#results.node(this.#node.inputs[index]);
    const name = node.op === 'input' ? node.attributes.name : node.op;
    return this.context.integers[name] ?? missingInput(name);
  }

  all(): { values: Float32Array; shape: readonly number[] }[] {
    return this.#node.inputs.map((_, index) => ({ values: this.floats(index), shape: this.shape(index) }));
  }
}

function missingInput(name: string): never {
  throw new DeviceError(
    'DEVICE_OP_UNSUPPORTED',
    `the graph takes an input '${name}', which the step does not give`,
  );
}

type Kernel<O extends Op> = (
  operands: Operands,
  attributes: Extract<GraphNode, { op: O }>['attributes'],
) => Float32Array;

const elementwise = (f: (x: number) => number) => (operands: Operands) => map(operands.floats(0), f);

/** Ops that one rank computes by itself; the others are {@link exchange}'s. */
type LocalOp = Exclude<Op, 'allReduce' | 'allGather'>;

/** What each op means. */
const kernels: { [O in LocalOp]: Kernel<O> } = {
  input: ({ context }, { name }) => context.floats?.[name] ?? missingInput(name),
  weight: ({ context }, { name }) => definite(context.weights.get(name), `weight '${name}'`),
  embedding: (o) => takeRows(o.floats(0), o.integers(1), rowLength(o.shape(0))),
  linear: (o, { parts }) => {
    const y = linear(o.floats(0), o.floats(1), o.optional(2), rowLength(o.shape(0)));
    o.context.adapters?.addTo(y, o.floats(0), parts);
    return y;
  },
  rmsNorm: (o, { epsilon }) => rmsNorm(o.floats(0), o.floats(1), epsilon),
  layerNorm: (o, { epsilon }) => layerNorm(o.floats(0), o.floats(1), o.optional(2), epsilon),
  add: (o) => zip(o.floats(0), o.floats(1), (a, b) => a + b),
  multiply: (o) => zip(o.floats(0), o.floats(1), (a, b) => a * b),
  scale: (o, { factor }) => map(o.floats(0), (x) => factor * x),
  silu: elementwise(silu),
  gelu: (o, { approximation }) => map(o.floats(0), geluOf(approximation)),
  relu: elementwise(relu),
  tanh: elementwise(Math.tanh),
  sigmoid: elementwise(sigmoid),
  swiglu: (o) => zip(o.floats(0), o.floats(1), (gate, up) => silu(gate) * up),
  geglu: (o, { approximation }) => {
    const gelu = geluOf(approximation);
    return zip(o.floats(0), o.floats(1), (gate, up) => gelu(gate) * up);
  },
  rope: (o, attributes) => rope(o.floats(0), o.integers(1), o.optional(2), rowLength(o.shape(0)), attributes),
  attention: (o, attributes) =>
    attention(o.floats(0), o.floats(1), o.floats(2), attributes, o.context.segments, o.context.kv),
  reshape: (o) => o.floats(0),
  rows: (o) => takeRows(o.floats(0), o.integers(1), rowLength(o.shape(0))),
  slice: (o, { axis, start, end }) => slice(o.floats(0), o.shape(0), axis, start, end),
  concat: (o, { axis }) => concat(o.all(), axis),
  softmax: (o) => softmax(o.floats(0), rowLength(o.shape(0))),
};

function compute(
  node: Extract<GraphNode, { op: LocalOp }>,
  results: Results,
  context: EvaluationContext,
): Float32Array {
  // The compiler cannot see that a node's op and attributes belong together once `node.op` indexes the table.
  const kernel = kernels[node.op] as Kernel<LocalOp>;
  return kernel(new Operands(node, results, context), node.attributes);
}

import { definite } from '../../base/errors.ts';
import type { Graph, GraphNode } from '../../graph/graph.ts';
import type { OpAttributes } from '../../graph/ops.ts';
import { NodeList } from './node-list.ts';
import { dropEmptyOutputs, sinkRows } from './sink-rows.ts';

type LinearNode = Extract<GraphNode, { op: 'linear' }>;
type RopeNode = Extract<GraphNode, { op: 'rope' }>;

/** A weight that the device stacks from several: rows of the parts one after the other. */
export type StackedWeights = ReadonlyMap<string, readonly string[]>;

/** A rewritten graph, and what its lowering must know beyond it. */
export interface FusedGraph {
  graph: Graph;
  stacked: StackedWeights;
  /** Rope nodes whose input nobody else reads: they may turn it in place. */
  inPlaceRopes: ReadonlySet<number>;
}

/** Whether linears of these weights may be stacked into one; the device decides by their types and where they lie. */
export type CanStack = (weightNames: readonly string[]) => boolean;

/**
 * Rewrites a recorded graph into fewer, larger ops; the result means the same.
 *
 * - Linears that read the same input become one linear over stacked weights (q/k/v, gate/up), followed by slices, which cost nothing.
 * - Ropes of neighbouring slices with equal attributes become one, in place (q and k).
 * - `rows` moves up through row-wise ops, so that the last layer computes wanted rows only.
 */
export function fuse(graph: Graph, canStack: CanStack): FusedGraph {
  return new Rewriter(sinkRows(dropEmptyOutputs(graph)), canStack).run();
}

/** Where a slice of a stacked linear lies: its columns, and how they are split into heads. */
interface Columns {
  root: number;
  start: number;
  end: number;
}

class Rewriter {
  readonly #graph: Graph;
  readonly #canStack: CanStack;
  readonly #list = new NodeList();
  readonly #moved = new Map<number, number>();
  readonly #stacked = new Map<string, string[]>();
  readonly #inPlaceRopes = new Set<number>();
  /** By id in the new list: column slices of stacked linears, through reshapes. */
  readonly #columns = new Map<number, Columns>();
  /** Linears that could be one, by {@link #siblingKey}. */
  readonly #siblings = new Map<string, LinearNode[]>();
  readonly #uses: number[];

  constructor(graph: Graph, canStack: CanStack) {
    this.#graph = graph;
    this.#canStack = canStack;
    this.#uses = countUses(graph);
    for (const node of graph.nodes) {
      if (node.op !== 'linear') continue;
      const key = this.#siblingKey(node);
      this.#siblings.set(key, [...(this.#siblings.get(key) ?? []), node]);
    }
  }

  run(): FusedGraph {
    for (const node of this.#graph.nodes) {
      if (this.#moved.has(node.id)) continue;
      if (node.op === 'linear' && this.#stackLinears(node)) continue;
      if (node.op === 'rope' && this.#joinRopes(node)) continue;
      this.#moved.set(node.id, this.#copy(node));
    }
    const outputs = Object.fromEntries(
      Object.entries(this.#graph.outputs).map(([name, id]) => [name, this.#at(id)]),
    );
    return {
      graph: { nodes: this.#list.nodes, outputs },
      stacked: this.#stacked,
      inPlaceRopes: this.#inPlaceRopes,
    };
  }

  #at(id: number): number {
    return definite(this.#moved.get(id), 'a rewritten node');
  }

  #node(id: number): GraphNode {
    return definite(this.#graph.nodes[id], 'a node');
  }

  #copy(node: GraphNode): number {
    const id = this.#list.push({ ...node, inputs: node.inputs.map((input) => this.#at(input)) } as GraphNode);
    const columns = node.op === 'reshape' ? this.#columns.get(this.#at(node.inputs[0] ?? -1)) : undefined;
    if (columns && node.shape[0] === this.#node(node.inputs[0] ?? -1).shape[0])
      this.#columns.set(id, columns);
    return id;
  }

  /** The same input, the same type of weight, and all with a bias or all without. */
  #siblingKey(node: LinearNode): string {
    const [input = -1, weight = -1] = node.inputs;
    return `${input}|${this.#node(weight).dtype}|${node.inputs.length}`;
  }

  #stackLinears(first: LinearNode): boolean {
    const group = this.#siblings.get(this.#siblingKey(first)) ?? [];
    if (group.length < 2 || first !== group[0]) return false;
    const weights = this.#ownNames(group, 1);
    const biases = first.inputs.length > 2 ? this.#ownNames(group, 2) : [];
    if (!weights || !biases || !this.#canStack(weights)) return false;
    this.#pushStacked(group, weights, biases);
    return true;
  }

  /** The names of the weights that the group's linears take as one of their inputs, if nobody else reads those. */
  #ownNames(group: readonly LinearNode[], index: number): string[] | undefined {
    const names = group.flatMap((node) => {
      const weight = this.#node(node.inputs[index] ?? -1);
      return weight.op === 'weight' && this.#uses[weight.id] === 1 ? [weight.attributes.name] : [];
    });
    return names.length === group.length ? names : undefined;
  }

  #pushWeight(names: readonly string[], shape: readonly number[], dtype: GraphNode['dtype']): number {
    const name = names.join('+');
    this.#stacked.set(name, [...names]);
    const node = { op: 'weight', inputs: [], attributes: { name }, shape, dtype };
    return this.#list.push(node as Omit<GraphNode, 'id'>);
  }

  #pushStacked(group: readonly LinearNode[], weights: readonly string[], biases: readonly string[]): void {
    const [first] = group as [LinearNode];
    const [tokens = 0] = first.shape;
    const x = this.#at(first.inputs[0] ?? -1);
    const weight = this.#node(first.inputs[1] ?? -1);
    const outs = group.map((node) => definite(node.shape[1], 'the width of a linear'));
    const total = outs.reduce((sum, out) => sum + out, 0);
    const inputs = [x, this.#pushWeight(weights, [total, weight.shape[1] ?? 0], weight.dtype)];
    if (biases.length > 0) inputs.push(this.#pushWeight(biases, [total], 'f32'));
    const attributes: OpAttributes['linear'] = { parts: group.flatMap((node) => node.attributes.parts) };
    const root = this.#list.push({
      op: 'linear',
      inputs,
      attributes,
      shape: [tokens, total],
      dtype: 'f32',
    } as Omit<GraphNode, 'id'>);
    let start = 0;
    group.forEach((node, index) => {
      const end = start + (outs[index] ?? 0);
      this.#moved.set(node.id, this.#slice(root, 1, start, end, [tokens, end - start]));
      this.#columns.set(this.#at(node.id), { root, start, end });
      start = end;
    });
  }

  #slice(input: number, axis: number, start: number, end: number, shape: readonly number[]): number {
    return this.#list.push({
      op: 'slice',
      inputs: [input],
      attributes: { axis, start, end },
      shape,
      dtype: 'f32',
    } as Omit<GraphNode, 'id'>);
  }

  /** Joins this rope with the next one when they turn neighbouring columns of one stacked linear in the same way. */
  #joinRopes(first: RopeNode): boolean {
    const columns = this.#ropeColumns(first);
    if (!columns) return false;
    const second = this.#graph.nodes.find(
      (node): node is RopeNode =>
        node.op === 'rope' && node.id > first.id && this.#follows(first, columns, node),
    );
    const [tokens = 0, heads = 0, dimension = 0] = first.shape;
    const more = second?.shape[1] ?? 0;
    if (!second) return false;
    const end = columns.end + more * dimension;
    const wide = this.#slice(columns.root, 1, columns.start, end, [tokens, (heads + more) * dimension]);
    const shape = [tokens, heads + more, dimension];
    const split = this.#list.push({
      op: 'reshape',
      inputs: [wide],
      attributes: { shape },
      shape,
      dtype: 'f32',
    } as Omit<GraphNode, 'id'>);
    const rest = first.inputs.slice(1).map((input) => this.#at(input));
    const rope = this.#list.push({ ...first, inputs: [split, ...rest], shape } as GraphNode);
    this.#inPlaceRopes.add(rope);
    this.#moved.set(first.id, this.#slice(rope, 1, 0, heads, first.shape));
    this.#moved.set(second.id, this.#slice(rope, 1, heads, heads + more, second.shape));
    return true;
  }

  /** The columns that a rope turns, if nobody else reads them. */
  #ropeColumns(rope: RopeNode): Columns | undefined {
    const input = rope.inputs[0] ?? -1;
    const columns = this.#columns.get(this.#moved.get(input) ?? -1);
    if (!columns || this.#uses[input] !== 1) return undefined;
    const reshape = this.#node(input);
    return reshape.op === 'reshape' && this.#uses[reshape.inputs[0] ?? -1] === 1 ? columns : undefined;
  }

  #follows(first: RopeNode, columns: Columns, second: RopeNode): boolean {
    // The second rope's input may stand behind the first rope in the graph: its columns are then those of its slice's origin.
    const reshape = this.#node(second.inputs[0] ?? -1);
    const origin = this.#columns.get(this.#moved.get(reshape.inputs[0] ?? -1) ?? -1);
    return (
      origin !== undefined &&
      reshape.op === 'reshape' &&
      this.#uses[reshape.id] === 1 &&
      this.#uses[reshape.inputs[0] ?? -1] === 1 &&
      origin.root === columns.root &&
      origin.start === columns.end &&
      second.shape[2] === first.shape[2] &&
      second.inputs.slice(1).join() === first.inputs.slice(1).join() &&
      JSON.stringify(second.attributes) === JSON.stringify(first.attributes)
    );
  }
}

function countUses(graph: Graph): number[] {
  const uses = graph.nodes.map(() => 0);
  for (const node of graph.nodes) for (const input of node.inputs) uses[input] = (uses[input] ?? 0) + 1;
  for (const id of Object.values(graph.outputs)) uses[id] = (uses[id] ?? 0) + 1;
  return uses;
}

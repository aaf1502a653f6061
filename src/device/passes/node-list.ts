import { definite } from '../../base/errors.ts';
import type { Graph, GraphNode } from '../../graph/graph.ts';

/** A graph under construction: appends nodes and knows their ids. */
export class NodeList {
  readonly nodes: GraphNode[] = [];

  push(node: Omit<GraphNode, 'id'>): number {
    const id = this.nodes.length;
    this.nodes.push({ ...node, id } as GraphNode);
    return id;
  }
}

/** Takes over a node whose id and inputs stay as they are: recording is on the way to a prompt's first token. */
export function keep(list: NodeList, node: GraphNode): number {
  return list.nodes.push(node) - 1;
}

/** Drops nodes that lead to no output and no attention (which writes the KV cache). */
export function prune(graph: Graph): Graph {
  const live = graph.nodes.map((node) => node.op === 'attention');
  for (const id of Object.values(graph.outputs)) live[id] = true;
  for (let id = graph.nodes.length - 1; id >= 0; id--) {
    if (live[id]) for (const input of definite(graph.nodes[id], 'a node').inputs) live[input] = true;
  }
  const list = new NodeList();
  const moved = new Map<number, number>();
  const at = (id: number) => definite(moved.get(id), 'a live node');
  for (const node of graph.nodes) {
    if (!live[node.id]) continue;
    const unmoved = list.nodes.length === node.id;
    const pruned = unmoved ? node : ({ ...node, inputs: node.inputs.map(at) } as GraphNode);
    moved.set(node.id, unmoved ? keep(list, pruned) : list.push(pruned));
  }
  const outputs = Object.fromEntries(Object.entries(graph.outputs).map(([name, id]) => [name, at(id)]));
  return { nodes: list.nodes, outputs };
}

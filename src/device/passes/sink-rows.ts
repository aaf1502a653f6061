import { definite } from '../../base/errors.ts';
import type { Graph, GraphNode } from '../../graph/graph.ts';
import { keep, NodeList, prune } from './node-list.ts';

const rowWise = new Set<GraphNode['op']>([
  'linear',
  'rmsNorm',
  'layerNorm',
  'add',
  'multiply',
  'scale',
  'silu',
  'gelu',
  'relu',
  'tanh',
  'sigmoid',
  'swiglu',
  'geglu',
]);

/** A step without output rows computes keys and values only: ggml has no empty tensors. */
export function dropEmptyOutputs(graph: Graph): Graph {
  const wanted = Object.entries(graph.outputs).filter(([, id]) => graph.nodes[id]?.shape[0] !== 0);
  return wanted.length === Object.keys(graph.outputs).length
    ? graph
    : prune({ nodes: graph.nodes, outputs: Object.fromEntries(wanted) });
}

/** Moves `rows(f(x))` to `f(rows(x))` for row-wise `f` whose result nobody else reads. */
export function sinkRows(graph: Graph): Graph {
  const chosen = graph.nodes.find(
    (node) => node.op === 'rows' && !graph.nodes.some((n) => n.op === 'rows' && n !== node),
  );
  if (chosen?.op !== 'rows') return graph;
  const only = nodesOnlyBelow(graph, chosen.id);
  const [source, indices] = chosen.inputs as [number, number];
  const rowCount = chosen.shape[0] ?? 0;
  const list = new NodeList();
  const moved = new Map<number, number>();
  const at = (id: number) => definite(moved.get(id), 'a moved node');
  const chosenRows = new Map<number, number>();

  // Node ids keep their meaning up to `rows`; the nodes that are narrowed are recorded a second time in its place, and the wide ones
  // become dead code that `prune` drops.
  const narrow = (id: number): number => {
    const known = chosenRows.get(id);
    if (known !== undefined) return known;
    const node = definite(graph.nodes[id], 'a node');
    const shape = [rowCount, ...node.shape.slice(1)];
    let result: number;
    if (node.op === 'weight' || node.shape.length < 2) result = at(id);
    else if (node.shape.length === 2 && rowWise.has(node.op) && only.has(id)) {
      const inputs = node.inputs.map(narrow);
      result = list.push({ ...node, inputs, shape } as GraphNode);
    } else result = list.push({ ...chosen, inputs: [at(id), at(indices)], shape } as GraphNode);
    chosenRows.set(id, result);
    return result;
  };

  for (const node of graph.nodes) {
    if (node.id < chosen.id) moved.set(node.id, keep(list, node));
    else if (node.id === chosen.id) moved.set(node.id, narrow(source));
    else moved.set(node.id, list.push({ ...node, inputs: node.inputs.map(at) } as GraphNode));
  }
  const outputs = Object.fromEntries(Object.entries(graph.outputs).map(([name, id]) => [name, at(id)]));
  return prune({ nodes: list.nodes, outputs });
}

/** The nodes whose results reach nothing but `sink`, through row-wise ops only: narrowing them saves work. */
function nodesOnlyBelow(graph: Graph, sink: number): Set<number> {
  const readers: GraphNode[][] = graph.nodes.map(() => []);
  for (const node of graph.nodes) for (const input of node.inputs) readers[input]?.push(node);
  const outputs = new Set(Object.values(graph.outputs));
  const only = new Set<number>();
  const leads = (node: GraphNode) =>
    node.id === sink || (only.has(node.id) && node.shape.length === 2 && rowWise.has(node.op));
  for (let id = sink - 1; id >= 0; id--) {
    const all = readers[id] ?? [];
    if (all.length > 0 && !outputs.has(id) && all.every(leads)) only.add(id);
  }
  return only;
}

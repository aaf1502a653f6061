import { messageOf } from '../base/errors.ts';
import { isDType } from './dtype.ts';
import { GraphError } from './errors.ts';
import type { Graph, GraphNode } from './graph.ts';
import { inferType, opNames } from './infer.ts';
import { sameShape, typeText } from './rules.ts';

/**
 * The language's executable spec: checks every node of a graph, whoever made it (a builder, a pass, a file). A debug level runs it on
 * every recorded graph and after every pass.
 * @throws GraphError naming the first node that breaks a rule
 */
export function verifyGraph(graph: Graph): void {
  for (const [index, node] of graph.nodes.entries()) {
    try {
      verifyNode(graph, node, index);
    } catch (thrown) {
      throw new GraphError('GRAPH_STRUCTURE_INVALID', `node ${index}: ${messageOf(thrown)}`);
    }
  }
  verifyNames(graph);
  verifyOutputs(graph);
}

function verifyNode(graph: Graph, node: GraphNode, index: number): void {
  if (node.id !== index) fail(`id ${node.id} is not its index`);
  if (!opNames.includes(node.op)) fail(`unknown op '${String(node.op)}'; known: ${opNames.join(', ')}`);
  if (!isDType(node.dtype)) fail(`unknown data type '${String(node.dtype)}'`);
  for (const size of node.shape) {
    if (!Number.isInteger(size) || size < 0) fail(`${node.op}: shape [${node.shape}] is not concrete`);
  }
  const inputs = node.inputs.map((id) => {
    const input = id < index ? graph.nodes[id] : undefined;
    return input ?? fail(`${node.op}: input ${id} does not precede it`);
  });
  if (node.op === 'input' || node.op === 'weight') {
    if (inputs.length > 0) fail(`${node.op}: expected no inputs, got ${inputs.length}`);
    if (node.attributes.name === '') fail(`${node.op}: has no name`);
    return;
  }
  const inferred = inferType(node.op, inputs, node.attributes);
  if (inferred.dtype === node.dtype && sameShape(inferred.shape, node.shape)) return;
  fail(`${node.op}: expected ${typeText(inferred)}, got ${typeText(node)}`);
}

function verifyNames(graph: Graph): void {
  const seen = new Set<string>();
  for (const node of graph.nodes) {
    if (node.op !== 'input' && node.op !== 'weight') continue;
    const key = `${node.op} '${node.attributes.name}'`;
    if (seen.has(key)) fail(`node ${node.id}: ${key} is declared twice`);
    seen.add(key);
  }
}

function verifyOutputs(graph: Graph): void {
  const outputs = Object.entries(graph.outputs);
  if (outputs.length === 0) fail('the graph has no outputs');
  for (const [name, id] of outputs) {
    if (!graph.nodes[id]) fail(`output '${name}' names node ${id}, which does not exist`);
  }
}

function fail(message: string): never {
  throw new GraphError('GRAPH_STRUCTURE_INVALID', message);
}

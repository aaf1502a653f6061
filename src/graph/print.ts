import type { Graph, GraphNode } from './graph.ts';
import { typeText } from './rules.ts';

/**
 * The graph as text, one line a node, stable so that two versions can be diffed:
 * `%7 = rmsNorm(%3, %6) {epsilon: 0.00001} : f32[4, 64]`.
 */
export function printGraph(graph: Graph): string {
  const lines = graph.nodes.map(printNode);
  for (const name of Object.keys(graph.outputs).sort())
    lines.push(`output ${name} = %${graph.outputs[name]}`);
  return `${lines.join('\n')}\n`;
}

function printNode(node: GraphNode): string {
  const inputs = node.inputs.map((id) => `%${id}`).join(', ');
  const attributes = attributeText(node.attributes);
  return `%${node.id} = ${node.op}(${inputs})${attributes === '{}' ? '' : ` ${attributes}`} : ${typeText(node)}`;
}

/** Keys in alphabetical order, so that the text does not depend on who built the object; absent and undefined print alike. */
function attributeText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(attributeText).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'undefined';
  const entries = Object.entries(value).filter(([, part]) => part !== undefined);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, part]) => `${key}: ${attributeText(part)}`).join(', ')}}`;
}

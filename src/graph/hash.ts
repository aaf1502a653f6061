import { createHash } from 'node:crypto';
import type { Graph } from './graph.ts';
import { printGraph } from './print.ts';

/** A hexadecimal sha-256 of the graph's structure: equal graphs, and only they, have equal hashes. */
export function graphHash(graph: Graph): string {
  return createHash('sha256').update(printGraph(graph)).digest('hex');
}

/** Whether two graphs have the same nodes in the same order and the same outputs. */
export function graphEqual(a: Graph, b: Graph): boolean {
  return a.nodes.length === b.nodes.length && printGraph(a) === printGraph(b);
}

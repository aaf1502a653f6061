import { elementCount } from '../../graph/rules.ts';
import type { Tensor } from './handles.ts';
import { contiguous } from './lower-shape.ts';
import type { LoweringState, NodeOf } from './lowering-state.ts';

/** The graph stops behind its input, which becomes the sum in place. */
export function lowerAllReduce(state: LoweringState, node: NodeOf<'allReduce'>): Tensor {
  return stopBehind(state, node).own;
}

/** The graph stops behind its input; the joined rows are read from the workspace. */
export function lowerAllGather(state: LoweringState, node: NodeOf<'allGather'>): Tensor {
  const [rows = 0, total = 0] = node.shape;
  const joined = state.parts.workspace.gathered(state.context, rows, total);
  stopBehind(state, node).gather = {
    widths: node.attributes.widths,
    joined,
    joinedElements: rows * total,
  };
  return joined;
}

function stopBehind(state: LoweringState, node: NodeOf<'allReduce' | 'allGather'>) {
  const source = state.node(node.inputs[0] ?? -1);
  const own = state.expand(contiguous(state, state.input(node, 0)));
  const nodes = state.ggml.ggml_graph_n_nodes(state.target);
  const exchange: LoweringState['exchanges'][number] = { nodes, own, elements: elementCount(source.shape) };
  state.exchanges.push(exchange);
  return exchange;
}

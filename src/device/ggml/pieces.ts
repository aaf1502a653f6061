import type { Collective } from '../collective/collective.ts';
import { DeviceError } from '../errors.ts';
import { after, type Pending } from '../pending.ts';
import type { Compute } from './compute.ts';
import type { Ggml } from './ffi.ts';
import type { ComputeGraph, Context } from './handles.ts';
import type { Exchange } from './lowering-state.ts';

/** Nodes between two exchanges, and what the ranks exchange behind them. */
export interface Piece {
  graph: ComputeGraph;
  exchange?: {
    own: Float32Array;
    gather?: { widths: readonly number[]; joined: Float32Array };
  };
}

/** Bytes of context that {@link cutGraph} needs for so many exchanges of a graph of so many nodes. */
export function cutBytes(ggml: Ggml, exchanges: number, nodesMax: number): number {
  if (exchanges === 0) return 0;
  // Each graph has a hash table of its own, of the next prime above twice its nodes.
  return 4 * ggml.ggml_graph_overhead_custom(nodesMax, false) + (exchanges + 1) * pieceBytesLeast;
}

const pieceBytesLeast = 4096;
const nodesLeast = 16;

/**
 * The graph in pieces, one up to each exchange and the rest. They share the whole graph's layout: what one piece leaves, the next one reads.
 * @param viewOf the float32 values of a tensor, once it has an address
 */
export function cutGraph(
  ggml: Ggml,
  context: Context,
  whole: ComputeGraph,
  exchanges: readonly Exchange[],
  viewOf: (tensor: Exchange['own'], elements: number) => Float32Array,
): Piece[] {
  if (exchanges.length === 0) return [{ graph: whole }];
  const count = ggml.ggml_graph_n_nodes(whole);
  const pieces: Piece[] = [];
  let first = 0;
  for (const exchange of [...exchanges, undefined]) {
    const end = exchange?.nodes ?? count;
    if (!exchange && end === first) break;
    const graph = ggml.ggml_new_graph_custom(context, Math.max(nodesLeast, end - first), false);
    for (let index = first; index < end; index++) {
      ggml.ggml_graph_add_node(graph, ggml.ggml_graph_node(whole, index));
    }
    first = end;
    pieces.push(exchange ? { graph, exchange: viewed(exchange, viewOf) } : { graph });
  }
  return pieces;
}

function viewed(
  { own, elements, gather }: Exchange,
  viewOf: (tensor: Exchange['own'], elements: number) => Float32Array,
): Piece['exchange'] {
  const values = viewOf(own, elements);
  if (!gather) return { own: values };
  const { widths, joined, joinedElements } = gather;
  return { own: values, gather: { widths, joined: viewOf(joined, joinedElements) } };
}

/** Computes piece after piece. Gives a promise only where it has to wait for other ranks. */
export function computePieces(
  pieces: readonly Piece[],
  compute: Compute,
  collective: Collective | undefined,
  first = 0,
): Pending<void> {
  for (let index = first; index < pieces.length; index++) {
    const { graph, exchange } = pieces[index] as Piece;
    compute.run(graph);
    if (!exchange) continue;
    const done = exchangeValues(exchange, collective);
    if (done) return after(done, () => computePieces(pieces, compute, collective, index + 1));
  }
}

function exchangeValues(
  { own, gather }: NonNullable<Piece['exchange']>,
  collective: Collective | undefined,
): void | Promise<void> {
  if (!collective) {
    const problem = 'this engine is one rank of several, and its model was loaded alone';
    throw new DeviceError('DEVICE_OP_UNSUPPORTED', `${problem}: start all ranks of the engine`);
  }
  return gather ? collective.allGather(own, gather.widths, gather.joined) : collective.allReduce(own);
}

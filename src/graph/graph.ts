import type { DType } from './dtype.ts';
import type { Op, OpAttributes } from './ops.ts';

/** Row-major, outermost first; always concrete. */
export type Shape = readonly number[];

/** One recorded op. `inputs` are ids of earlier nodes; `id` is the node's index in `Graph.nodes`. */
export type GraphNode = {
  [O in Op]: {
    readonly id: number;
    readonly op: O;
    readonly inputs: readonly number[];
    readonly attributes: OpAttributes[O];
    readonly shape: Shape;
    readonly dtype: DType;
  };
}[Op];

/** A network for one concrete batch shape: plain data in execution order, with named results. */
export interface Graph {
  readonly nodes: readonly GraphNode[];
  /** Named results, e.g. `logits` → node id. */
  readonly outputs: Readonly<Record<string, number>>;
}

/** The concrete shape that a graph is recorded for. Which rows belong to which sequence is data, not shape. */
export interface BatchShape {
  /** Rows of this step over all sequences. */
  tokens: number;
  /** Rows whose logits (or final hidden states) are wanted. */
  outputRows: number;
  /**
   * Of the output rows, how many get logits, where the final hidden states of all of them are an output, too. Absent: all of them get logits,
   * and there is no such output.
   */
  logitRows?: number;
}

/** What one layer keeps in the KV cache for each position. */
export interface KvLayerSpec {
  kind: 'self';
  /** Elements of one position's keys (kvHeads · headDimension) and values. */
  keyElements: number;
  valueElements: number;
  /** Positions older than this are never read again. */
  window?: number;
}

/** The whole model's needs of the KV cache, layer by layer. */
export interface KvSpec {
  layers: readonly KvLayerSpec[];
}

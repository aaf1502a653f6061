import { definite } from '../../base/errors.ts';
import type { Op } from '../../graph/ops.ts';
import type { FusedGraph } from '../passes/fuse.ts';
import { CapturedGraph } from './capture.ts';
import type { DevicePointer } from './driver.ts';
import { lowerAttention, lowerRope } from './lower-attention.ts';
import { lowerLinear } from './lower-linear.ts';
import { lowerAllGather, lowerAllReduce } from './lower-ranks.ts';
import { asFloat32, rowOps } from './lower-rows.ts';
import {
  type Bucket,
  type Lower,
  LoweringState,
  type ModelParts,
  resolver,
  type StepAddresses,
  unsupported,
} from './lowering.ts';
import { addressOf, placeRegions, type View } from './views.ts';

const ops: Partial<Record<Op, Lower>> = {
  ...rowOps,
  linear: lowerLinear,
  rope: lowerRope,
  attention: lowerAttention,
  allReduce: lowerAllReduce,
  allGather: lowerAllGather,
};

/** Adds what follows the logits (sampling) to a program. */
export type Tail = (state: LoweringState, logits: View) => void;

/**
 * A graph as kernels and matrix products over fixed addresses, for one bucket of steps. First it is planned, which says how much arena it
 * needs; once placed it runs any number of times, and from the second time on as one captured graph.
 */
export class Program {
  readonly bucket: Bucket;
  /** Bytes of arena that it needs. */
  readonly arenaBytes: number;
  readonly #parts: ModelParts;
  readonly #state: LoweringState;
  readonly #logits: View | undefined;
  readonly #hidden: View | undefined;
  #queue: (() => void)[] | undefined;
  #captured: CapturedGraph | undefined;
  #arena: DevicePointer = 0;

  constructor(parts: ModelParts, fused: FusedGraph, bucket: Bucket, step: StepAddresses, tail: Tail) {
    this.bucket = bucket;
    this.#parts = parts;
    const state = new LoweringState(parts, fused, bucket, step);
    for (const node of fused.graph.nodes) {
      if (node.op === 'input' && node.attributes.name === 'hidden')
        unsupported('stages of layers (pipeline parallelism)');
      if (node.op === 'input' || node.op === 'weight' || state.isDone(node)) continue;
      const lower = ops[node.op] ?? unsupported(`op '${node.op}'`);
      lower(state, node);
    }
    const { hidden, logits: output } = fused.graph.outputs;
    if (hidden !== undefined && !bucket.hasHidden) unsupported('stages of layers (pipeline parallelism)');
    if (hidden !== undefined) {
      this.#hidden = asFloat32(state, state.view(definite(fused.graph.nodes[hidden], 'the hidden states')));
    }
    if (output !== undefined) {
      this.#logits = asFloat32(state, state.view(definite(fused.graph.nodes[output], 'the logits')));
      tail(state, this.#logits);
    }
    // They are read when the step is done.
    if (this.#hidden) this.#hidden.region.lastUse = state.operations.length;
    this.arenaBytes = placeRegions(state.regions);
    this.#state = state;
  }

  /** Operations by kernel, for tests and logs. */
  get operationNames(): string[] {
    return this.#state.operations.map(({ name }) => name);
  }

  /** Gives the program its memory and prepares every launch; the fastest algorithms of new product shapes are found by timing. */
  place(arena: DevicePointer): void {
    this.#arena = arena;
    this.#queue = this.#state.operations.map((operation) => operation.prepare(resolver(arena)));
  }

  /** Where the [R, width] float32 hidden states lie after a run; 0 for a program that gives none. */
  get hiddenAddress(): DevicePointer {
    return this.#hidden ? addressOf(this.#hidden, this.#arena) : 0;
  }

  /** Where the [L, vocabulary] float32 logits lie after a run; 0 for a program that makes none. */
  get logitsAddress(): DevicePointer {
    return this.#logits ? addressOf(this.#logits, this.#arena) : 0;
  }

  /** Queues one step. @param captures whether it may become a captured graph */
  run(captures: boolean): void {
    const queue = definite(this.#queue, 'a placed program');
    const { gpu } = this.#parts;
    if (captures && !this.#captured) {
      this.#captured = new CapturedGraph(gpu.driver, gpu.stream, () => {
        for (const operation of queue) operation();
      });
    }
    if (this.#captured) this.#captured.launch(gpu.stream);
    else for (const operation of queue) operation();
  }

  /** All of the step's operations of one name, captured: what a profile times. */
  captureOnly(name: string): CapturedGraph {
    const queue = definite(this.#queue, 'a placed program');
    const { gpu } = this.#parts;
    return new CapturedGraph(gpu.driver, gpu.stream, () => {
      this.#state.operations.forEach((operation, index) => {
        if (operation.name === name) queue[index]?.();
      });
    });
  }

  close(): void {
    this.#captured?.close();
    this.#captured = undefined;
  }
}

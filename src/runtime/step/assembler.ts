import type { Segment, StepBatch } from '../../device/device.ts';
import type { PlannedRows } from '../plan/scheduler.ts';
import { isPlainDraw, isPlainGreedy } from '../sampling/row-sampling.ts';
import type { Sequence } from '../sequences/sequence.ts';

/** What an output row is for. */
export interface OutputUse {
  sequence: Sequence;
  /** Prompt position whose log-probability the row gives; absent: the row gives the sequence's next token. */
  promptPosition?: number;
}

/** A step as it goes to the device, with what its rows are for. */
export interface AssembledStep {
  batch: StepBatch;
  planned: readonly PlannedRows<Sequence>[];
  /** By output row. */
  uses: readonly OutputUse[];
}

/** Writes planned rows into a device's batch. The arrays are reused: a step's batch is valid until the next is assembled. */
export class BatchAssembler {
  readonly #tokens: Int32Array;
  readonly #positions: Int32Array;
  readonly #outputRows: Int32Array;
  readonly #temperatures: Float32Array;

  constructor(batchTokensMax: number) {
    this.#tokens = new Int32Array(batchTokensMax);
    this.#positions = new Int32Array(batchTokensMax);
    this.#outputRows = new Int32Array(batchTokensMax);
    this.#temperatures = new Float32Array(batchTokensMax);
  }

  assemble(planned: readonly PlannedRows<Sequence>[]): AssembledStep {
    const segments: Segment[] = [];
    const uses: OutputUse[] = [];
    let want: StepBatch['want'] = 'greedy';
    let draws = false;
    let row = 0;
    for (const { sequence, rows } of planned) {
      const kvLength = sequence.computed + rows;
      this.#tokens.set(sequence.tokens.subarray(sequence.computed, kvLength), row);
      for (let position = sequence.computed; position < kvLength; position++, row++) {
        this.#positions[row] = position;
        const use = outputUse(sequence, position);
        if (!use) continue;
        const { sampling } = sequence.owner;
        const isDraw = use.promptPosition === undefined && isPlainDraw(sampling, sequence.generated);
        if (isDraw) draws = true;
        this.#outputRows[uses.length] = row;
        this.#temperatures[uses.length] = isDraw ? sampling.parameters.temperature : 1;
        uses.push(use);
        if (use.promptPosition !== undefined || !isPlainGreedy(sampling, sequence.generated)) want = 'logits';
      }
      segments.push({ slot: sequence.handle, rows, kvLength });
    }
    const batch: StepBatch = {
      tokens: this.#tokens.subarray(0, row),
      positions: this.#positions.subarray(0, row),
      segments,
      outputRows: this.#outputRows.subarray(0, uses.length),
      want,
      ...(draws && { temperatures: this.#temperatures.subarray(0, uses.length) }),
    };
    return { batch, planned, uses };
  }
}

function outputUse(sequence: Sequence, position: number): OutputUse | undefined {
  if (position === sequence.length - 1) return { sequence };
  const givesPromptLogprob = sequence.owner.needsPromptRows && position + 1 < sequence.promptLength;
  return givesPromptLogprob ? { sequence, promptPosition: position + 1 } : undefined;
}

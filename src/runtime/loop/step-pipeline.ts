import { assert, definite } from '../../base/errors.ts';
import type { DeviceModel } from '../../device/device.ts';
import { DeviceError } from '../../device/errors.ts';
import type { StepResult } from '../../device/step.ts';
import { emptyPlan, type PlannedRows } from '../plan/scheduler.ts';
import type { Sequence } from '../sequences/sequence.ts';
import { type BatchAssembler, LaunchedStep } from '../step/assembler.ts';

/** A step that came back. */
export interface CollectedStep {
  step: LaunchedStep;
  result: StepResult;
}

/** A launch was refused, and no smaller one is possible: it holds rows of one sequence alone. */
export interface RefusedLaunch {
  sequence: Sequence;
  error: unknown;
}

/**
 * The steps that are on the device: launched in order, collected in order. A step that the device refuses (no room for its activations) is cut
 * in two and tried again: generation rows apart from prompt chunks, then halves, until one sequence alone is to blame; its neighbours go on.
 */
export class StepPipeline {
  readonly inFlightMax: number;
  readonly #model: DeviceModel;
  readonly #assembler: BatchAssembler;
  readonly #free: LaunchedStep[];
  readonly #launched: LaunchedStep[] = [];
  /** Parts of refused steps, to be launched before anything new is planned. */
  readonly #parts: PlannedRows<Sequence>[] = [];
  #serial = 0;

  constructor(model: DeviceModel, assembler: BatchAssembler, inFlightMax: number, rowsMax: number) {
    this.inFlightMax = inFlightMax;
    this.#model = model;
    this.#assembler = assembler;
    this.#free = Array.from({ length: inFlightMax }, () => new LaunchedStep(rowsMax));
  }

  get inFlight(): number {
    return this.#launched.length;
  }

  get isFull(): boolean {
    return this.#launched.length === this.inFlightMax;
  }

  /** Takes the next part of a refused step, as far as its sequences can still run. */
  nextPart(): PlannedRows<Sequence> | undefined {
    for (;;) {
      const part = this.#parts.shift();
      if (!part) return undefined;
      const left = emptyPlan<Sequence>();
      for (const [index, sequence] of part.sequences.entries()) {
        if (sequence.state !== 'running') continue;
        const rows = Math.min(part.rows[index] as number, sequence.rowsReady);
        if (rows === 0) continue;
        left.sequences.push(sequence);
        left.rows.push(rows);
      }
      if (left.sequences.length > 0) return left;
    }
  }

  /**
   * Starts a step; without rows it only takes KV operations along.
   * @returns what the device refuses to run even alone
   * @throws what the device throws when it is lost
   */
  launch(planned: PlannedRows<Sequence>): RefusedLaunch | undefined {
    const step = definite(this.#free.pop(), 'a place in the pipeline');
    const batch = this.#assembler.assemble(planned, step, this.#serial);
    try {
      this.#model.launch(batch);
    } catch (error) {
      this.#assembler.takeBack(step);
      this.#free.push(step);
      if (!isSurvivable(error) || planned.sequences.length === 0) throw error;
      if (planned.sequences.length === 1) {
        return { sequence: definite(planned.sequences[0], 'a sequence'), error };
      }
      this.#parts.unshift(...halves(planned));
      return undefined;
    }
    this.#serial++;
    this.#launched.push(step);
    return undefined;
  }

  /** The oldest step's result. */
  collect(): CollectedStep | Promise<CollectedStep> {
    const step = definite(this.#launched[0], 'a step in flight');
    const result = this.#model.collect();
    if (!(result instanceof Promise)) return { step: this.#landed(step), result };
    return result.then((value) => ({ step: this.#landed(step), result: value }));
  }

  /** The oldest step failed: it is over, whatever it did. */
  abandon(): LaunchedStep | undefined {
    const step = this.#launched[0];
    return step && this.#landed(step);
  }

  /** The device is lost, and with it all that was on it. */
  abandonAll(): void {
    this.#parts.length = 0;
    while (this.abandon()) {}
  }

  /** The step may be used again once what it holds was looked at, before the next launch. */
  #landed(step: LaunchedStep): LaunchedStep {
    assert(this.#launched.shift() === step, 'steps land in order');
    this.#free.push(step);
    return step;
  }
}

function halves({ sequences, rows }: PlannedRows<Sequence>): PlannedRows<Sequence>[] {
  const parts = [emptyPlan<Sequence>(), emptyPlan<Sequence>()] as const;
  const generating = sequences.filter(({ isGenerating }) => isGenerating).length;
  const cut = generating > 0 && generating < sequences.length ? generating : Math.ceil(sequences.length / 2);
  for (const [index, sequence] of sequences.entries()) {
    const part = index < cut ? parts[0] : parts[1];
    part.sequences.push(sequence);
    part.rows.push(rows[index] as number);
  }
  return [...parts];
}

/** Whether the device itself says that it can go on: it refused this work, rather than broke. */
export function isSurvivable(thrown: unknown): boolean {
  return (
    thrown instanceof DeviceError && thrown.code !== 'DEVICE_FAILED' && thrown.code !== 'DEVICE_BATCH_INVALID'
  );
}

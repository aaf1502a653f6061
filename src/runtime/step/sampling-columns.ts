import type { SamplingStateLoad, SamplingTable } from '../../device/step.ts';
import type { Sequence } from '../sequences/sequence.ts';

const noTokens = new Int32Array(0);

/** The sampling columns of a step's output rows, written in place row by row. */
export class SamplingColumns implements SamplingTable {
  readonly temperature: Float64Array;
  readonly topK: Int32Array;
  readonly topP: Float64Array;
  readonly minP: Float64Array;
  readonly seed: Float64Array;
  readonly sequence: Int32Array;
  readonly position: Int32Array;
  readonly state: Int32Array;
  readonly topLogprobs: Int32Array;
  loads: SamplingStateLoad[] = [];
  /**
   * Whose settings each row's columns hold: a steady decode step has the same sequences in the same rows as the one before, and writes only
   * positions. Undefined: plain ones.
   */
  readonly #owners: (Sequence | undefined)[];

  constructor(rows: number) {
    this.temperature = new Float64Array(rows);
    this.topK = new Int32Array(rows);
    this.topP = new Float64Array(rows).fill(1);
    this.minP = new Float64Array(rows);
    this.seed = new Float64Array(rows);
    this.sequence = new Int32Array(rows);
    this.position = new Int32Array(rows);
    this.state = new Int32Array(rows).fill(-1);
    this.topLogprobs = new Int32Array(rows);
    this.#owners = new Array(rows).fill(undefined);
  }

  clear(): void {
    if (this.loads.length > 0) this.loads = [];
  }

  /** The row's token is the argmax of its raw logits, or the row wants none. */
  setPlain(row: number, position: number): void {
    this.position[row] = position;
    if (this.#owners[row] !== undefined) this.#clearRow(row);
  }

  /** The row's token is chosen as its sequence's request says. */
  set(row: number, sequence: Sequence, position: number): void {
    this.position[row] = position;
    if (this.#owners[row] === sequence && !sequence.needsStateLoad) return;
    this.#owners[row] = sequence;
    const { sampling, seed } = sequence.owner;
    const { parameters } = sampling;
    this.temperature[row] = sampling.isGreedy ? 0 : parameters.temperature;
    this.topK[row] = parameters.topK;
    this.topP[row] = parameters.topP;
    this.minP[row] = parameters.minP;
    this.seed[row] = seed;
    this.sequence[row] = sequence.index;
    this.state[row] = sequence.samplingState;
    this.topLogprobs[row] = sampling.logprobs;
    if (!sequence.needsStateLoad) return;
    sequence.needsStateLoad = false;
    this.loads.push(stateLoad(sequence));
  }

  /** The row's probabilities are wanted at the sequence's temperature; its token is the host's to choose. */
  setTemperature(row: number, sequence: Sequence, position: number): void {
    if (this.#owners[row] !== undefined) this.#clearRow(row);
    this.#owners[row] = sequence;
    this.position[row] = position;
    this.temperature[row] = sequence.owner.sampling.parameters.temperature;
  }

  #clearRow(row: number): void {
    this.#owners[row] = undefined;
    this.temperature[row] = 0;
    this.topP[row] = 1;
    this.state[row] = -1;
  }
}

function stateLoad(sequence: Sequence): SamplingStateLoad {
  const { sampling, request } = sequence.owner;
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = sampling.parameters;
  const { hasPenalties } = sampling;
  return {
    state: sequence.samplingState,
    repetitionPenalty,
    presencePenalty,
    frequencyPenalty,
    promptTokens: hasPenalties ? request.promptTokens : noTokens,
    outputTokens: hasPenalties ? sequence.outputTokens() : noTokens,
    biasTokens: sampling.biasTokens,
    biasValues: sampling.biasValues,
    bannedTokens: sampling.stopTokens,
    banUntilPosition: sequence.promptLength + sampling.minTokens,
  };
}

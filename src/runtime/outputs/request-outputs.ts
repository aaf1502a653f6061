import { assert } from '../../base/errors.ts';
import type { RowHidden } from '../../device/step.ts';
import type { GenerationRequest, RequestReturns } from '../requests/request.ts';
import type { LogitRow } from '../sampling/logit-row.ts';
import type { OutputName, OutputRows, Outputs, RowsReference } from './output-rows.ts';
import type { OutputRoom } from './output-store.ts';

const floatBytes = Float32Array.BYTES_PER_ELEMENT;

/** Widths of the rows that a model can give. */
export interface OutputWidths {
  vocabularySize: number;
  hiddenWidth: number;
  contextLength: number;
}

/** What a request's rows are and where in its room they lie. */
interface OutputLayout {
  contextLogits: number;
  contextHidden: number;
  /** Of sequence 0; the others follow. */
  generationLogits: number;
  /** Tokens of one sequence. */
  tokensMax: number;
  bytes: number;
}

/** What a request reserves: its worst case. */
export function outputLayout(
  request: Pick<GenerationRequest, 'promptTokens' | 'maxTokens' | 'sequences' | 'returns'>,
  { vocabularySize, hiddenWidth, contextLength }: OutputWidths,
): OutputLayout {
  const { promptTokens, maxTokens, sequences, returns = {} } = request;
  const prompt = promptTokens.length;
  const tokensMax = Math.min(maxTokens, contextLength - prompt);
  let bytes = 0;
  const take = (rows: number, width: number): number => {
    const start = bytes;
    bytes += rows * width * floatBytes;
    return start;
  };
  const contextLogits = take(returns.contextLogits ? prompt : 0, vocabularySize);
  const contextHidden = take(returns.contextHidden ? prompt : 0, hiddenWidth);
  const generationLogits = take(returns.generationLogits ? sequences * tokensMax : 0, vocabularySize);
  return { contextLogits, contextHidden, generationLogits, tokensMax, bytes };
}

/** Gathers what a request wants to see beside its tokens. */
export class RequestOutputs {
  readonly #returns: RequestReturns;
  readonly #promptLength: number;
  readonly #widths: OutputWidths;
  readonly #layout: OutputLayout;
  /** Absent where nothing large is wanted. */
  readonly #room: OutputRoom | undefined;
  /** Of the prompt's hidden states: their sum, or the last one. */
  readonly #pooled: Float64Array;
  #pooledRows = 0;

  constructor(request: GenerationRequest, widths: OutputWidths, room: OutputRoom | undefined) {
    this.#returns = request.returns ?? {};
    this.#promptLength = request.promptTokens.length;
    this.#widths = widths;
    this.#layout = outputLayout(request, widths);
    this.#room = room;
    this.#pooled = new Float64Array(this.#returns.pooling ? widths.hiddenWidth : 0);
  }

  /** The logits behind the prompt's token at `position`. */
  contextLogits(position: number, { logits, start, width }: LogitRow): void {
    if (!this.#returns.contextLogits) return;
    const at = this.#layout.contextLogits + position * width * floatBytes;
    this.#room?.write(at, logits.subarray(start, start + width));
  }

  /** The final hidden state of the prompt's token at `position`. A prompt that is computed anew gives the same once more. */
  contextHidden(position: number, { values }: RowHidden, row: number): void {
    const { hiddenWidth } = this.#widths;
    const state = values.subarray(row * hiddenWidth, (row + 1) * hiddenWidth);
    if (this.#returns.contextHidden) {
      this.#room?.write(this.#layout.contextHidden + position * hiddenWidth * floatBytes, state);
    }
    if (this.#returns.pooling === 'last') this.#pooled.set(state);
    else if (this.#returns.pooling === 'mean' && position === this.#pooledRows) {
      this.#pooledRows++;
      for (let column = 0; column < hiddenWidth; column++) {
        this.#pooled[column] = (this.#pooled[column] as number) + (state[column] as number);
      }
    }
  }

  /** The logits that a sequence's token number `index` was chosen from. */
  generationLogits(sequence: number, index: number, { logits, start, width }: LogitRow): void {
    if (!this.#returns.generationLogits) return;
    this.#room?.write(this.#generationOffset(sequence, index), logits.subarray(start, start + width));
  }

  /** What is known once the prompt is computed. */
  ofContext(): Outputs {
    const { vocabularySize, hiddenWidth } = this.#widths;
    const outputs: Outputs = {};
    if (this.#returns.contextLogits) {
      outputs.contextLogits = this.#read(this.#layout.contextLogits, this.#promptLength, vocabularySize);
    }
    if (this.#returns.contextHidden) {
      outputs.contextHidden = this.#read(this.#layout.contextHidden, this.#promptLength, hiddenWidth);
    }
    return outputs;
  }

  /** What belongs to `count` tokens of a sequence, from number `first` on. */
  ofTokens(sequence: number, first: number, count: number): Outputs {
    if (!this.#returns.generationLogits) return {};
    const at = this.#generationOffset(sequence, first);
    return { generationLogits: this.#read(at, count, this.#widths.vocabularySize) };
  }

  /** The prompt as one vector, not normalized; undefined unless asked for. */
  embedding(): Float32Array | undefined {
    const { pooling } = this.#returns;
    if (!pooling) return undefined;
    if (pooling === 'last') return Float32Array.from(this.#pooled);
    assert(this.#pooledRows === this.#promptLength, 'every row of the prompt in its mean');
    return Float32Array.from(this.#pooled, (sum) => sum / this.#promptLength);
  }

  #generationOffset(sequence: number, index: number): number {
    const { generationLogits, tokensMax } = this.#layout;
    return generationLogits + (sequence * tokensMax + index) * this.#widths.vocabularySize * floatBytes;
  }

  #read(offset: number, rows: number, width: number): OutputRows | RowsReference {
    assert(this.#room, 'room for rows');
    return this.#room.read(offset, rows, width);
  }
}

/** Adds what an event brings to what it brought already. */
export function joinOutputs(outputs: Outputs | undefined, more: Outputs): Outputs | undefined {
  const names = Object.keys(more) as OutputName[];
  return names.length === 0 ? outputs : { ...outputs, ...more };
}

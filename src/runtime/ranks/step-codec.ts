import type {
  OutputTable,
  RowLogits,
  RowLogprobs,
  SamplingStateLoad,
  SegmentTable,
  StepBatch,
  StepOutput,
  StepResult,
} from '../../device/step.ts';
import { want } from '../../device/step.ts';
import { RuntimeError } from '../errors.ts';
import { type Column, decodeColumns, encodeColumns } from './columns.ts';

/** A step plan as rank 0 sends it and the others replay it: the batch's own columns, cut to their counts. */
export function encodeStep(batch: StepBatch): Uint8Array {
  const { serial, tokens, positions, segments, outputs, kv } = batch;
  const { loads } = outputs.sampling;
  const numbers = [
    serial,
    segments.count,
    outputs.count,
    kv.count,
    loads.length,
    segments.adapter ? 1 : 0,
    ...loads.flatMap(loadNumbers),
  ];
  const columns: Column[] = [tokens, positions, ...segmentColumns(segments), ...outputColumns(outputs)];
  for (const column of [kv.kinds, kv.from, kv.to, kv.positions]) columns.push(column.subarray(0, kv.count));
  for (const load of loads) columns.push(...loadColumns(load));
  return encodeColumns({ numbers, columns });
}

function segmentColumns({ count, rows, kvLength, blockStart, blocks, adapter }: SegmentTable): Column[] {
  const starts = blockStart.subarray(0, count + 1);
  return [
    rows.subarray(0, count),
    kvLength.subarray(0, count),
    starts,
    blocks.subarray(0, starts[count] ?? 0),
    ...(adapter ? [adapter.subarray(0, count)] : []),
  ];
}

function outputColumns({ count, rows, wants, sampling }: OutputTable): Column[] {
  const { temperature, topK, topP, minP, seed, sequence, position, state, topLogprobs } = sampling;
  const all: Column[] = [
    rows,
    wants,
    temperature,
    topK,
    topP,
    minP,
    seed,
    sequence,
    position,
    state,
    topLogprobs,
  ];
  return all.map((column) => column.subarray(0, count));
}

const loadNumbers = (load: SamplingStateLoad): number[] => [
  load.state,
  load.repetitionPenalty,
  load.presencePenalty,
  load.frequencyPenalty,
  load.banUntilPosition,
];

const loadColumns = (load: SamplingStateLoad): Column[] => [
  load.promptTokens,
  load.outputTokens,
  load.biasTokens,
  load.biasValues,
  load.bannedTokens,
];

/**
 * The inverse of {@link encodeStep}; its arrays are views into `bytes`.
 * @throws RuntimeError `RANK_MESSAGE_INVALID`
 */
export function decodeStep(bytes: Uint8Array): StepBatch {
  const reader = new ColumnReader(bytes);
  const [serial, segmentCount, outputCount, kvCount, loadCount, usesAdapters] = reader.numbers(6) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const tokens = reader.next(Int32Array);
  const positions = reader.next(Int32Array, tokens.length);
  const segments = {
    count: segmentCount,
    rows: reader.next(Int32Array, segmentCount),
    kvLength: reader.next(Int32Array, segmentCount),
    blockStart: reader.next(Int32Array, segmentCount + 1),
    blocks: reader.next(Int32Array),
    ...(usesAdapters === 1 && { adapter: reader.next(Int32Array, segmentCount) }),
  };
  const outputs = decodeOutputs(reader, outputCount);
  const kv = {
    count: kvCount,
    kinds: reader.next(Uint8Array, kvCount),
    from: reader.next(Int32Array, kvCount),
    to: reader.next(Int32Array, kvCount),
    positions: reader.next(Int32Array, kvCount),
  };
  const loads = Array.from({ length: loadCount }, () => decodeLoad(reader));
  outputs.sampling.loads = loads;
  reader.end();
  return { serial, tokens, positions, segments, outputs, kv };
}

function decodeOutputs(
  reader: ColumnReader,
  count: number,
): OutputTable & { sampling: { loads: SamplingStateLoad[] } } {
  return {
    count,
    rows: reader.next(Int32Array, count),
    wants: reader.next(Uint8Array, count),
    sampling: {
      temperature: reader.next(Float64Array, count),
      topK: reader.next(Int32Array, count),
      topP: reader.next(Float64Array, count),
      minP: reader.next(Float64Array, count),
      seed: reader.next(Float64Array, count),
      sequence: reader.next(Int32Array, count),
      position: reader.next(Int32Array, count),
      state: reader.next(Int32Array, count),
      topLogprobs: reader.next(Int32Array, count),
      loads: [],
    },
  };
}

function decodeLoad(reader: ColumnReader): SamplingStateLoad {
  const numbers = reader.numbers(5) as [number, number, number, number, number];
  const [state, repetitionPenalty, presencePenalty, frequencyPenalty, banUntilPosition] = numbers;
  return {
    state,
    repetitionPenalty,
    presencePenalty,
    frequencyPenalty,
    banUntilPosition,
    promptTokens: reader.next(Int32Array),
    outputTokens: reader.next(Int32Array),
    biasTokens: reader.next(Int32Array),
    biasValues: reader.next(Float32Array),
    bannedTokens: reader.next(Int32Array),
  };
}

/** A step's result, as the last stage sends it to rank 0: of logits only the rows that were asked for. */
export function encodeResult(
  { output, computeNs }: StepResult,
  outputs: OutputTable,
  width: number,
): Uint8Array {
  const { tokens, logits, logprobs } = output;
  const kept = logits && keptLogits(logits, outputs, width);
  const numbers = [
    computeNs,
    kept ? 1 : 0,
    kept?.probabilities ? 1 : 0,
    logprobs ? 1 : 0,
    logprobs?.perRow ?? 0,
  ];
  const columns: Column[] = [tokens];
  if (kept) columns.push(kept.values, kept.places);
  if (kept?.probabilities) columns.push(kept.probabilities.values, kept.probabilities.blockSums);
  if (logprobs) columns.push(logprobs.chosen, logprobs.ids, logprobs.values);
  return encodeColumns({ numbers, columns });
}

function keptLogits(
  logits: RowLogits,
  { count, wants }: OutputTable,
  width: number,
): RowLogits & { places: Int32Array } {
  const rows: number[] = [];
  const places = new Int32Array(count).fill(-1);
  for (let row = 0; row < count; row++) {
    if (((wants[row] as number) & want.logits) === 0) continue;
    places[row] = rows.length;
    rows.push(logits.places ? (logits.places[row] as number) : row);
  }
  const gather = (values: Float32Array, elements: number) => {
    const result = new Float32Array(rows.length * elements);
    for (const [at, row] of rows.entries())
      result.set(values.subarray(row * elements, (row + 1) * elements), at * elements);
    return result;
  };
  const values = gather(logits.values, width);
  const { probabilities } = logits;
  if (!probabilities) return { values, places };
  const blocks = Math.round(
    (probabilities.blockSums.length * width) / Math.max(1, probabilities.values.length),
  );
  const own = {
    values: gather(probabilities.values, width),
    blockSums: gather(probabilities.blockSums, blocks),
  };
  return { values, places, probabilities: own };
}

/**
 * The inverse of {@link encodeResult}.
 * @throws RuntimeError `RANK_MESSAGE_INVALID`
 */
export function decodeResult(bytes: Uint8Array): StepResult {
  const reader = new ColumnReader(bytes);
  const [computeNs, hasLogits, hasProbabilities, hasLogprobs, perRow] = reader.numbers(5) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const output: StepOutput = { tokens: reader.next(Int32Array) };
  if (hasLogits) {
    output.logits = { values: reader.next(Float32Array), places: reader.next(Int32Array) };
    if (hasProbabilities)
      output.logits.probabilities = {
        values: reader.next(Float32Array),
        blockSums: reader.next(Float32Array),
      };
  }
  if (hasLogprobs) output.logprobs = decodeLogprobs(reader, perRow);
  reader.end();
  return { output, computeNs };
}

function decodeLogprobs(reader: ColumnReader, perRow: number): RowLogprobs {
  const chosen = reader.next(Float64Array);
  const entries = chosen.length * perRow;
  return {
    chosen,
    perRow,
    ids: reader.next(Int32Array, entries),
    values: reader.next(Float32Array, entries),
  };
}

/** Activations, as stages hand them on. */
export function encodeHidden(hidden: Float32Array): Uint8Array {
  return encodeColumns({ numbers: [], columns: [hidden] });
}

/** @throws RuntimeError `RANK_MESSAGE_INVALID` unless it holds whole rows of the step */
export function decodeHidden(bytes: Uint8Array, rows: number): Float32Array {
  const reader = new ColumnReader(bytes);
  const hidden = reader.next(Float32Array);
  reader.end();
  if (hidden.length > 0 && hidden.length % rows === 0) return hidden;
  throw new RuntimeError(
    'RANK_MESSAGE_INVALID',
    `a stage handed on ${hidden.length} values for ${rows} rows`,
  );
}

/** Takes numbers and columns in the order in which they were put in. */
class ColumnReader {
  readonly #numbers: Float64Array;
  readonly #columns: readonly Column[];
  #number = 0;
  #column = 0;

  constructor(bytes: Uint8Array) {
    const { numbers, columns } = decodeColumns(bytes);
    this.#numbers = numbers;
    this.#columns = columns;
  }

  numbers(count: number): number[] {
    const taken = Array.from(this.#numbers.subarray(this.#number, this.#number + count));
    this.#number += count;
    if (taken.length === count) return taken;
    throw wrongMessage('numbers are missing');
  }

  next<C extends Column>(type: new (length: number) => C, length?: number): C {
    const column = this.#columns[this.#column++];
    if (column instanceof type && (length === undefined || column.length === length)) return column;
    throw wrongMessage(`column ${this.#column - 1} is of another type or length`);
  }

  end(): void {
    if (this.#column !== this.#columns.length || this.#number !== this.#numbers.length)
      throw wrongMessage('it goes on');
  }
}

function wrongMessage(problem: string): RuntimeError {
  return new RuntimeError('RANK_MESSAGE_INVALID', `a message between ranks is not understood: ${problem}`);
}

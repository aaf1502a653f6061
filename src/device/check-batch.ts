import type { Segment, StepBatch } from './device.ts';
import { DeviceError } from './errors.ts';

/** What a model was loaded for. */
export interface BatchLimits {
  vocabularySize: number;
  contextLength: number;
  slots: number;
  batchTokensMax: number;
}

function invalid(problem: string): DeviceError {
  return new DeviceError('DEVICE_BATCH_INVALID', `${problem} (a bug in the caller: please report it)`);
}

/**
 * Checks all that ggml would abort the process for, or read outside its memory for.
 * @throws DeviceError DEVICE_BATCH_INVALID
 */
export function checkBatch(batch: StepBatch, limits: BatchLimits): void {
  const tokens = batch.tokens.length;
  if (tokens === 0 || tokens > limits.batchTokensMax) {
    throw invalid(`a step of ${tokens} tokens; 1 to ${limits.batchTokensMax} were agreed`);
  }
  if (batch.positions.length !== tokens)
    throw invalid(`${batch.positions.length} positions for ${tokens} tokens`);
  for (let row = 0; row < tokens; row++) {
    const token = batch.tokens[row] as number;
    if (token < 0 || token >= limits.vocabularySize) {
      throw invalid(`token ${token} of row ${row} is outside the vocabulary of ${limits.vocabularySize}`);
    }
  }
  checkSegments(batch, limits);
  let previous = -1;
  for (const row of batch.outputRows) {
    if (row <= previous || row >= tokens)
      throw invalid(`output row ${row} after ${previous} of ${tokens} rows`);
    previous = row;
  }
  if (batch.temperatures) checkTemperatures(batch, batch.temperatures);
}

function checkTemperatures(batch: StepBatch, temperatures: Float32Array): void {
  if (batch.want !== 'logits') throw invalid('temperatures for a step that wants no logits');
  if (temperatures.length !== batch.outputRows.length)
    throw invalid(`${temperatures.length} temperatures for ${batch.outputRows.length} output rows`);
  for (const temperature of temperatures) {
    if (!(temperature > 0 && temperature < Number.POSITIVE_INFINITY))
      throw invalid(`a temperature of ${temperature}`);
  }
}

function checkSegments(batch: StepBatch, limits: BatchLimits): void {
  const slots = new Set<number>();
  let firstRow = 0;
  for (const segment of batch.segments) {
    checkSegment(segment, limits);
    if (slots.has(segment.slot)) throw invalid(`slot ${segment.slot} stands in two segments`);
    slots.add(segment.slot);
    const start = segment.kvLength - segment.rows;
    for (let row = 0; row < segment.rows; row++) {
      if (batch.positions[firstRow + row] !== start + row) {
        throw invalid(
          `row ${firstRow + row} has position ${batch.positions[firstRow + row]}, not ${start + row}`,
        );
      }
    }
    firstRow += segment.rows;
  }
  if (firstRow !== batch.tokens.length)
    throw invalid(`segments of ${firstRow} rows for ${batch.tokens.length} tokens`);
}

function checkSegment({ slot, rows, kvLength }: Segment, limits: BatchLimits): void {
  if (!Number.isInteger(slot) || slot < 0 || slot >= limits.slots)
    throw invalid(`slot ${slot} of ${limits.slots}`);
  if (!Number.isInteger(rows) || rows < 1) throw invalid(`a segment of ${rows} rows`);
  if (!Number.isInteger(kvLength) || kvLength < rows || kvLength > limits.contextLength) {
    throw invalid(`a KV length of ${kvLength} with ${rows} rows and a context of ${limits.contextLength}`);
  }
}

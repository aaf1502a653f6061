import { readFileSync, statSync } from 'node:fs';
import { messageOf } from '../../base/errors.ts';
import { LoadError } from '../errors.ts';
import { datasetBytesMax } from '../limits.ts';
import type { WorkloadSource } from './spec.ts';

/** One row of a dataset: a prompt, and the answer's length as far as the data tells. */
export interface DatasetRow {
  prompt: string;
  /** The recorded answer, to count its tokens. */
  answer?: string;
  /** Its length, where the file states it. */
  outputTokens?: number;
}

/** The file's text. @throws LoadError LOAD_DATASET_UNREADABLE, LOAD_DATASET_INVALID */
export function readDatasetText(path: string): string {
  try {
    const { size } = statSync(path);
    if (size > datasetBytesMax)
      throw new LoadError(
        'LOAD_DATASET_INVALID',
        `${path} has ${size} bytes; at most ${datasetBytesMax} are read`,
      );
    return readFileSync(path, 'utf8');
  } catch (cause) {
    if (cause instanceof LoadError) throw cause;
    throw new LoadError('LOAD_DATASET_UNREADABLE', `cannot read the dataset: ${messageOf(cause)}`, { cause });
  }
}

/**
 * The usable rows of a dataset file, in its order.
 * @throws LoadError LOAD_DATASET_UNREADABLE, LOAD_DATASET_INVALID naming the file and what it should hold
 */
export function readDataset(source: Extract<WorkloadSource, { path: string }>): DatasetRow[] {
  const text = readDatasetText(source.path);
  const rows =
    source.kind === 'custom'
      ? jsonLines(text, source.path).map(customRow)
      : jsonList(text, source).map(rowOf);
  const usable = rows.filter((row) => row !== undefined);
  if (usable.length === 0)
    throw new LoadError(
      'LOAD_DATASET_INVALID',
      `${source.path} has no usable entry; ${source.kind} wants ${shapes[source.kind]}`,
    );
  return usable;
}

const shapes: Record<string, string> = {
  sharegpt: 'a JSON list of {"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}]}',
  instruction: 'a JSON list of {"instruction": …, "input": …, "output": …}',
  custom: 'one {"prompt": …, "output_tokens": …} a line',
  replay: 'a CSV or JSON lines with timestamps and lengths',
};

function jsonList(text: string, source: WorkloadSource & { path: string }): [unknown, WorkloadSource][] {
  const value = parse(text, source.path);
  if (!Array.isArray(value))
    throw new LoadError(
      'LOAD_DATASET_INVALID',
      `${source.path} holds no list; ${source.kind} wants ${shapes[source.kind]}`,
    );
  return value.map((entry) => [entry, source]);
}

/** The values of a file with one JSON value a line. @throws LoadError LOAD_DATASET_INVALID naming the line */
export function jsonLines(text: string, path: string): unknown[] {
  return text
    .split('\n')
    .map((line, index) => ({ line, place: `${path}, line ${index + 1}` }))
    .filter(({ line }) => line.trim() !== '')
    .map(({ line, place }) => parse(line, place));
}

function parse(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new LoadError('LOAD_DATASET_INVALID', `${place} is no JSON: ${messageOf(cause)}`, { cause });
  }
}

function rowOf([entry, source]: [unknown, WorkloadSource]): DatasetRow | undefined {
  return source.kind === 'sharegpt' ? shareGptRow(entry) : instructionRow(entry, source);
}

function fieldsOf(entry: unknown): Record<string, unknown> {
  return entry !== null && typeof entry === 'object' ? (entry as Record<string, unknown>) : {};
}

/** The first two messages; conversations with fewer are left out, as vLLM does. */
function shareGptRow(entry: unknown): DatasetRow | undefined {
  const fields = fieldsOf(entry);
  const messages = fields.conversations ?? fields.conversation;
  if (!Array.isArray(messages) || messages.length < 2) return undefined;
  const [prompt, answer] = messages.map((message) => fieldsOf(message).value ?? fieldsOf(message).content);
  if (typeof prompt !== 'string' || typeof answer !== 'string' || prompt === '') return undefined;
  return { prompt, answer };
}

/** The prompt is the input with the instruction after it, as Triton's tools build it. */
function instructionRow(entry: unknown, source: WorkloadSource): DatasetRow | undefined {
  const { instruction, input, output } = fieldsOf(entry);
  const prompt = [input, instruction].filter((part) => typeof part === 'string' && part !== '').join(' ');
  if (prompt === '' || source.kind !== 'instruction') return undefined;
  if (typeof output !== 'string') return { prompt };
  const words = output.split(/\s+/).filter((word) => word !== '').length;
  return { prompt, answer: output, outputTokens: Math.max(1, Math.floor(words * source.tokensPerWord)) };
}

function customRow(entry: unknown): DatasetRow | undefined {
  const { prompt, output_tokens: outputTokens } = fieldsOf(entry);
  if (typeof prompt !== 'string' || prompt === '') return undefined;
  return typeof outputTokens === 'number' && outputTokens >= 1
    ? { prompt, outputTokens: Math.floor(outputTokens) }
    : { prompt };
}

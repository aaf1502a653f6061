import type { Backend, BackendContext } from '../backend.ts';
import type { WordsMark } from '../engine/marks.ts';
import { encodeWordLists } from '../engine/word-lists.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import { renamed, type Tensor, tensorOf, textsOf, valuesOf } from '../tensor.ts';
import { looseTruth, type ModelTokenizer, openModelTokenizer } from './tokenizers.ts';

/**
 * TensorRT-LLM's `preprocessing` model: texts to padded ids, word lists, embedding bias. In this process; long texts in a worker.
 * @throws RepositoryError, TokenizerError
 */
export async function load(context: BackendContext): Promise<Backend> {
  const texts = await openModelTokenizer(context);
  const addSpecialTokens = looseTruth(context, 'add_special_tokens', true);
  return {
    kind: 'direct',
    start: (execution) => {
      execution.begin();
      refuseImages(execution);
      const pending = encodeAll(execution, 'QUERY', texts, addSpecialTokens);
      const decoder = encodeAll(execution, 'DECODER_QUERY', texts, addSpecialTokens);
      if (pending instanceof Promise || decoder instanceof Promise) {
        Promise.all([pending, decoder]).then(
          ([ids, decoderIds]) => respond(execution, texts, ids, decoderIds),
          (thrown: unknown) => execution.fail(thrown),
        );
      } else respond(execution, texts, pending, decoder);
    },
    close: () => texts.close(),
  };
}

const images = ['IMAGE_BYTES', 'VIDEO_BYTES', 'IMAGE_URL', 'PROMPT_TABLE_EXTRA_ID'];

function refuseImages(execution: Execution): void {
  const found = images.find((name) => (execution.input(name)?.data.length ?? 0) > 0);
  if (!found) return;
  const feature = found.startsWith('PROMPT') ? 'prompt tables' : 'image and video inputs';
  throw new RepositoryError(
    'UNSUPPORTED',
    `${feature} are not supported; send the request without '${found}'`,
  );
}

type Ids = readonly Int32Array[];

/** The ids of each row's text; none where the input is absent. */
function encodeAll(
  execution: Execution,
  input: string,
  texts: ModelTokenizer,
  addSpecialTokens: boolean,
): Ids | Promise<Ids> {
  const tensor = execution.input(input);
  const encoded = tensor ? textsOf(tensor).map((text) => texts.encode(text, addSpecialTokens)) : [];
  const isInline = encoded.every((ids) => ids instanceof Int32Array);
  return isInline ? (encoded as Int32Array[]) : Promise.all(encoded);
}

function respond(execution: Execution, texts: ModelTokenizer, ids: Ids, decoderIds: Ids): void {
  if (execution.isOver) return;
  try {
    execution.inputsReady();
    const outputs = [...promptOutputs(execution, texts, ids), ...wordOutputs(execution, texts)];
    if (execution.wants('DECODER_INPUT_ID') || execution.wants('REQUEST_DECODER_INPUT_LEN')) {
      const decoder = decoderIds.length > 0 ? decoderIds : ids.map(() => Int32Array.of(texts.padId));
      outputs.push(padded('DECODER_INPUT_ID', decoder, texts.padId));
      outputs.push(lengths('REQUEST_DECODER_INPUT_LEN', decoder));
    }
    execution.computed();
    execution.respond({ outputs }, true);
  } catch (thrown) {
    execution.fail(thrown);
  }
}

function promptOutputs(execution: Execution, texts: ModelTokenizer, ids: Ids): Tensor[] {
  const outputs = [padded('INPUT_ID', ids, texts.padId), lengths('REQUEST_INPUT_LEN', ids)];
  const outputLength = execution.input('REQUEST_OUTPUT_LEN');
  if (outputLength) outputs.push(outputLength);
  for (const [input, output, id] of [
    ['END_ID', 'OUT_END_ID', texts.endId],
    ['PAD_ID', 'OUT_PAD_ID', texts.padId],
  ] as const) {
    const given = execution.input(input);
    const own = (): Tensor =>
      tensorOf(output, 'INT32', [execution.batchSize, 1], new Int32Array(execution.batchSize).fill(id));
    outputs.push(given ? renamed(given, output) : own());
  }
  return outputs;
}

/** Rows of different lengths, padded on the right to the longest. */
function padded(name: string, rows: Ids, padId: number): Tensor {
  const length = Math.max(0, ...rows.map((row) => row.length));
  const values = new Int32Array(rows.length * length).fill(padId);
  rows.forEach((row, index) => {
    values.set(row, index * length);
  });
  return tensorOf(name, 'INT32', [rows.length, length], values);
}

function lengths(name: string, rows: Ids): Tensor {
  return tensorOf(
    name,
    'INT32',
    [rows.length, 1],
    Int32Array.from(rows, (row) => row.length),
  );
}

function wordOutputs(execution: Execution, texts: ModelTokenizer): Tensor[] {
  const outputs: Tensor[] = [];
  for (const [input, output] of [
    ['STOP_WORDS_DICT', 'STOP_WORDS_IDS'],
    ['BAD_WORDS_DICT', 'BAD_WORDS_IDS'],
  ] as const) {
    if (!execution.wants(output)) continue;
    const words = wordRows(execution, input);
    const tensor = encodeWordLists(
      output,
      words.map((row) => row.map((word) => [...idsOfWord(texts, word)])),
    );
    const mark: WordsMark = { kind: 'words', rows: words };
    outputs.push({ ...tensor, mark });
  }
  if (execution.wants('EMBEDDING_BIAS')) outputs.push(embeddingBias(execution, texts));
  if (execution.wants('PROMPT_LEARNING_TASK_NAME_IDS')) {
    const none = new Int32Array(execution.batchSize);
    outputs.push(tensorOf('PROMPT_LEARNING_TASK_NAME_IDS', 'INT32', [execution.batchSize, 1], none));
  }
  return outputs;
}

function idsOfWord(texts: ModelTokenizer, word: string): Int32Array {
  return texts.tokenizer.encode(word, { addSpecialTokens: false });
}

/** Stop, bad or bias words of one row, and the length of one: they are encoded here and now. */
export const wordsMax = 1_024;
export const wordLengthMax = 1_024;

/** The words of each row, without empty ones. @throws RepositoryError over {@link wordsMax} or {@link wordLengthMax} */
function wordRows(execution: Execution, input: string): string[][] {
  const tensor = execution.input(input);
  const rows = execution.batchSize;
  const words = tensor ? textsOf(tensor) : [];
  const rowLength = words.length / rows;
  if (rowLength > wordsMax) {
    const message = `${input} has ${rowLength} words; at most ${wordsMax} are taken`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  if (words.some((word) => word.length > wordLengthMax)) {
    const message = `${input} has a word of over ${wordLengthMax} characters; shorten it`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  return Array.from({ length: rows }, (_, row) =>
    words.slice(row * rowLength, (row + 1) * rowLength).filter((word) => word !== ''),
  );
}

/** One row a request over the whole vocabulary: the weights of the words, added up in each of their ids; [rows, 0] without words. */
function embeddingBias(execution: Execution, texts: ModelTokenizer): Tensor {
  const rows = execution.batchSize;
  const words = wordRows(execution, 'EMBEDDING_BIAS_WORDS');
  const weights = execution.input('EMBEDDING_BIAS_WEIGHTS');
  const values = weights ? valuesOf(weights, 'FP32') : new Float32Array(0);
  const count = words.reduce((sum, row) => sum + row.length, 0);
  if (count !== values.length) {
    const message = `EMBEDDING_BIAS_WORDS has ${count} words, but EMBEDDING_BIAS_WEIGHTS ${values.length} weights; send one for each`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  if (count === 0) return tensorOf('EMBEDDING_BIAS', 'FP32', [rows, 0], new Float32Array(0));
  const { vocabularySize } = texts.tokenizer;
  const bias = new Float32Array(rows * vocabularySize);
  let next = 0;
  words.forEach((row, index) => {
    for (const word of row) {
      const weight = values[next++] as number;
      for (const id of idsOfWord(texts, word)) {
        const at = index * vocabularySize + id;
        bias[at] = (bias[at] as number) + weight;
      }
    }
  });
  return tensorOf('EMBEDDING_BIAS', 'FP32', [rows, vocabularySize], bias);
}

import { bytesTensor, type Tensor, tensorOf, textsOf, valuesOf } from '../../repository/tensor.ts';
import { CliError } from '../errors.ts';
import { type ClientResponse, KserveConnection } from './connection.ts';

/** What `nereid client e2e` was told. */
export interface EndToEndFlags {
  prompt: string;
  url: string;
  modelName: string;
  outputLen: number;
  streaming?: boolean;
  beamWidth: number;
  numReturnSequences?: number;
  temperature: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  requestId: string;
  stopWords?: string[];
  badWords?: string[];
  embeddingBiasWords?: string[];
  embeddingBiasWeights?: string[];
  endId?: number;
  padId?: number;
  overwriteOutputText?: boolean;
  excludeInputInOutput?: boolean;
  returnLogProbs?: boolean;
  batchInputs?: boolean;
  expectedOutputs?: string[];
  checkOutputs?: boolean;
}

/**
 * The original text client's run: every prompt on one stream, then `<i>: text` lines.
 * @throws CliError when a request is refused, or the check fails
 */
export async function runEndToEnd(flags: EndToEndFlags): Promise<void> {
  const prompts = promptsOf(flags.prompt);
  const groups = flags.batchInputs ? [prompts] : prompts.map((prompt) => [prompt]);
  const connection = new KserveConnection(flags.url);
  try {
    const texts: string[] = [];
    for (const [index, group] of groups.entries()) {
      const answered = await ask(connection, flags, group, flags.requestId || String(index));
      print(answered, texts.length);
      texts.push(...answered);
    }
    check(flags, texts);
  } finally {
    connection.close();
  }
}

/** @param from the number of the first */
function print(texts: readonly string[], from: number): void {
  texts.forEach((text, index) => {
    process.stdout.write(`${from + index}: ${text}\n`);
  });
}

function promptsOf(text: string): string[] {
  if (!text.trimStart().startsWith('[')) return [text];
  try {
    const list: unknown = JSON.parse(text);
    if (Array.isArray(list) && list.every((one) => typeof one === 'string')) return list;
  } catch {
    // A text that begins with a bracket.
  }
  return [text];
}

/** One request; the texts of its sequences, in order. */
async function ask(
  connection: KserveConnection,
  flags: EndToEndFlags,
  prompts: readonly string[],
  id: string,
): Promise<string[]> {
  const texts: string[] = [];
  let last: ClientResponse | undefined;
  let refusal: string | undefined;
  const stream = connection.stream((response) => {
    refusal ??= response.error;
    const text = response.outputs.get('text_output');
    if (!text) return;
    last = response;
    const at = indexOf(response, 'batch_index') * sequencesOf(flags) + indexOf(response, 'sequence_index');
    textsOf(text).forEach((piece, beam) => {
      const place = at + beam;
      texts[place] = flags.streaming && !flags.overwriteOutputText ? (texts[place] ?? '') + piece : piece;
    });
  });
  stream.send({ model: flags.modelName, id, inputs: inputsOf(flags, prompts), outputs: outputsOf(flags) });
  stream.end();
  await stream.ended;
  if (refusal !== undefined) throw new CliError('REQUEST_REFUSED', refusal, { usage: false });
  for (const name of ['cum_log_probs', 'output_log_probs']) {
    const tensor = flags.returnLogProbs ? last?.outputs.get(name) : undefined;
    if (tensor) process.stdout.write(`${name}: ${[...valuesOf(tensor, 'FP32')].join(', ')}\n`);
  }
  return texts;
}

function sequencesOf(flags: EndToEndFlags): number {
  return flags.numReturnSequences ?? 1;
}

function indexOf(response: ClientResponse, name: string): number {
  const tensor = response.outputs.get(name);
  return tensor ? Number(valuesOf(tensor, 'INT32')[0]) : 0;
}

function outputsOf(flags: EndToEndFlags): string[] {
  return [
    'text_output',
    ...(flags.returnLogProbs ? ['cum_log_probs', 'output_log_probs'] : []),
    ...(flags.batchInputs ? ['batch_index'] : []),
    ...(flags.numReturnSequences ? ['sequence_index'] : []),
  ];
}

function inputsOf(flags: EndToEndFlags, prompts: readonly string[]): Tensor[] {
  const rows = prompts.length;
  const column = <T>(value: T): T[] => Array.from({ length: rows }, () => value);
  const int = (name: string, value: number | undefined): Tensor[] =>
    value === undefined ? [] : [tensorOf(name, 'INT32', [rows, 1], Int32Array.from(column(value)))];
  const float = (name: string, value: number | undefined): Tensor[] =>
    value === undefined ? [] : [tensorOf(name, 'FP32', [rows, 1], Float32Array.from(column(value)))];
  const truth = (name: string, value: boolean | undefined): Tensor[] =>
    value ? [tensorOf(name, 'BOOL', [rows, 1], Uint8Array.from(column(1)))] : [];
  const words = (name: string, values: string[] | undefined): Tensor[] =>
    values ? [bytesTensor(name, [rows, values.length], column(values).flat())] : [];
  const weights = flags.embeddingBiasWeights?.map(Number);
  return [
    bytesTensor('text_input', [rows, 1], prompts),
    ...int('max_tokens', flags.outputLen),
    ...int('beam_width', flags.beamWidth),
    ...int('num_return_sequences', flags.numReturnSequences),
    ...int('end_id', flags.endId),
    ...int('pad_id', flags.padId),
    ...float('temperature', flags.temperature),
    ...float('repetition_penalty', flags.repetitionPenalty),
    ...float('presence_penalty', flags.presencePenalty),
    ...float('frequency_penalty', flags.frequencyPenalty),
    ...truth('stream', flags.streaming),
    ...truth('exclude_input_in_output', flags.excludeInputInOutput),
    ...truth('return_log_probs', flags.returnLogProbs),
    ...words('stop_words', flags.stopWords),
    ...words('bad_words', flags.badWords),
    ...words('embedding_bias_words', flags.embeddingBiasWords),
    ...(weights
      ? [
          tensorOf(
            'embedding_bias_weights',
            'FP32',
            [rows, weights.length],
            Float32Array.from(column(weights).flat()),
          ),
        ]
      : []),
  ];
}

function check(flags: EndToEndFlags, texts: readonly string[]): void {
  if (!flags.checkOutputs) return;
  const expected = flags.expectedOutputs ?? [];
  const wrong = texts.findIndex((text, index) => text !== expected[index]);
  if (wrong < 0 && expected.length === texts.length) return;
  const message =
    wrong < 0
      ? `${texts.length} texts came, ${expected.length} were expected`
      : `text ${wrong} is not as expected: ${JSON.stringify(expected[wrong])}`;
  throw new CliError('CHECK_FAILED', message, { usage: false });
}

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Tensor, tensorOf, valuesOf } from '../../repository/tensor.ts';
import { openTokenizer } from '../../tokenizer/open.ts';
import type { Tokenizer } from '../../tokenizer/types.ts';
import { CliError } from '../errors.ts';
import { type ClientResponse, type ConnectionFlags, KserveConnection } from './connection.ts';
import { readNpy } from './npy.ts';

/** What `nereid client inflight` was told. */
export interface InflightFlags extends ConnectionFlags {
  url: string;
  modelName: string;
  text: string;
  inputTokensCsv?: string;
  outputTokensCsv?: string;
  tokenizerDir?: string;
  endId?: number;
  padId: number;
  requestOutputLen: number;
  streaming?: boolean;
  numReturnSequences?: number;
  beamWidth: number;
  temperature: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  topK: number;
  topP: number;
  requestId: string;
  stopAfterMs: number;
  stopViaRequestCancel?: boolean;
  excludeInputInOutput?: boolean;
  loraPath?: string;
  loraTaskId: number;
  returnLogProbs?: boolean;
  returnPerfMetrics?: boolean;
  returnContextLogits?: boolean;
  returnGenerationLogits?: boolean;
  checkOutput?: boolean;
  correctnessThreshold: number;
}

/** Ids that are shown whole. */
const shownIdsMax = 256;
const answerTimeoutMs = 600_000;

/** Everything that a run gathers. */
interface Gathered {
  /** By sequence: the new ids of a stream, or all ids of the one answer. */
  ids: number[][];
  last: Map<string, Tensor>;
  isCancelled: boolean;
  stopSent: boolean;
  stopAnswered: boolean;
}

/**
 * The original client's run: prints what it sends and gets.
 * @throws CliError when the request is refused, or the check fails
 */
export async function runInflight(flags: InflightFlags): Promise<void> {
  const tokenizer = flags.tokenizerDir === undefined ? undefined : await openTokenizer(flags.tokenizerDir);
  const prompt = await promptIds(flags, tokenizer);
  const endId = flags.endId ?? tokenizer?.eosTokenId ?? -1;
  print(`Using pad_id: ${flags.padId}`);
  print(`Using end_id: ${endId}`);
  const shown = prompt.length > shownIdsMax ? prompt.slice(0, shownIdsMax) : prompt;
  print(`Input sequence${prompt.length > shownIdsMax ? ' starts with' : ''}:  [${shown.join(', ')}]`);
  const inputs = [...inputsOf(flags, prompt, endId), ...(await loraInputs(flags))];
  const connection = new KserveConnection(flags.url, flags);
  try {
    const gathered = await ask(connection, flags, inputs);
    await report(flags, prompt, gathered, tokenizer);
  } finally {
    connection.close();
  }
}

async function promptIds(flags: InflightFlags, tokenizer: Tokenizer | undefined): Promise<number[]> {
  if (flags.inputTokensCsv !== undefined) return readIds(flags.inputTokensCsv);
  if (tokenizer) return [...tokenizer.encode(flags.text)];
  throw new CliError(
    'CLI_ARGUMENT_MISSING',
    '--text needs --tokenizer-dir; or give ids with --input-tokens-csv',
  );
}

async function readIds(path: string): Promise<number[]> {
  const ids = (await readFile(path, 'utf8'))
    .split(/[\s,]+/)
    .filter((word) => word !== '')
    .map(Number);
  if (ids.length > 0 && ids.every(Number.isInteger)) return ids;
  throw new CliError('CLI_VALUE_INVALID', `${path} must hold token ids, separated by commas`);
}

function inputsOf(flags: InflightFlags, prompt: readonly number[], endId: number): Tensor[] {
  const inputs = [
    tensorOf('input_ids', 'INT32', [1, prompt.length], Int32Array.from(prompt)),
    int('input_lengths', prompt.length),
    int('request_output_len', flags.requestOutputLen),
    int('beam_width', flags.beamWidth),
    float('temperature', flags.temperature),
    truth('streaming', flags.streaming ?? false),
    int('end_id', endId),
    int('pad_id', flags.padId),
    int('runtime_top_k', flags.topK),
    float('runtime_top_p', flags.topP),
  ];
  if (flags.numReturnSequences !== undefined)
    inputs.push(int('num_return_sequences', flags.numReturnSequences));
  for (const [name, value] of [
    ['repetition_penalty', flags.repetitionPenalty],
    ['presence_penalty', flags.presencePenalty],
    ['frequency_penalty', flags.frequencyPenalty],
  ] as const) {
    if (value !== undefined) inputs.push(float(name, value));
  }
  for (const [name, isSet] of [
    ['exclude_input_in_output', flags.excludeInputInOutput],
    ['return_log_probs', flags.returnLogProbs],
    ['return_perf_metrics', flags.returnPerfMetrics],
    ['return_context_logits', flags.returnContextLogits],
    ['return_generation_logits', flags.returnGenerationLogits],
  ] as const) {
    if (isSet) inputs.push(truth(name, true));
  }
  return inputs;
}

/** The adapter's id, and with the first request its weights, as `hf_lora_convert.py` wrote them. */
async function loraInputs({ loraPath, loraTaskId }: InflightFlags): Promise<Tensor[]> {
  const inputs: Tensor[] = [];
  if (loraTaskId !== 0) {
    inputs.push(tensorOf('lora_task_id', 'UINT64', [1, 1], BigUint64Array.of(BigInt(loraTaskId))));
  }
  if (loraPath === undefined || loraPath === '') return inputs;
  const config = join(loraPath, 'model.lora_config.npy');
  const configPath = existsSync(config) ? config : join(loraPath, 'model.lora_keys.npy');
  const weights = readNpy(join(loraPath, 'model.lora_weights.npy'), 'lora_weights', loraRank);
  return [...inputs, await weights, await readNpy(configPath, 'lora_config', loraRank)];
}

/** Batch, rows, values. */
const loraRank = 3;

async function ask(connection: KserveConnection, flags: InflightFlags, inputs: Tensor[]): Promise<Gathered> {
  const gathered: Gathered = {
    ids: [],
    last: new Map(),
    isCancelled: false,
    stopSent: false,
    stopAnswered: false,
  };
  const stopId = flags.stopAfterMs > 0 && flags.requestId === '' ? '1' : flags.requestId;
  const request = { model: flags.modelName, id: stopId, inputs };
  let finish: () => void = () => {};
  let fail: (error: Error) => void = () => {};
  const isDone = new Promise<void>((resolve, reject) => {
    finish = resolve;
    fail = reject;
  });
  const stream = connection.stream((response) => {
    if (response.error !== undefined) {
      fail(new CliError('REQUEST_REFUSED', response.error, { usage: false }));
      return;
    }
    gather(gathered, response);
    if (response.isFinal) finish();
  });
  const timer = setTimeout(() => fail(new Error(`no answer within ${answerTimeoutMs} ms`)), answerTimeoutMs);
  const stopTimer = flags.stopAfterMs > 0 ? setTimeout(stop, flags.stopAfterMs) : undefined;
  function stop(): void {
    if (flags.stopViaRequestCancel) stream.cancel();
    else {
      const kept = inputs.filter(({ name }) =>
        ['input_ids', 'input_lengths', 'request_output_len'].includes(name),
      );
      gathered.stopSent = true;
      stream.send({ ...request, inputs: [...kept, truth('stop', true)] });
    }
  }
  try {
    stream.send(request);
    const ended = stream.ended.then((how) => {
      gathered.isCancelled = how === 'cancelled';
    });
    await Promise.race([isDone, ended]);
    stream.end();
    await ended;
    return gathered;
  } catch (thrown) {
    // An open stream would keep the process alive.
    stream.cancel();
    throw thrown;
  } finally {
    clearTimeout(timer);
    clearTimeout(stopTimer);
  }
}

function gather(gathered: Gathered, response: ClientResponse): void {
  const tensor = response.outputs.get('output_ids');
  if (!tensor) {
    // Only stop requests are answered without tensors.
    if (gathered.stopSent && !gathered.stopAnswered) {
      gathered.stopAnswered = true;
      print('Got cancellation response from server');
    }
    return;
  }
  const index = response.outputs.get('sequence_index');
  const sequence = index ? Number(valuesOf(index, 'INT32')[0]) : 0;
  const ids = gathered.ids[sequence] ?? [];
  ids.push(...valuesOf(tensor, 'INT32'));
  gathered.ids[sequence] = ids;
  // The prompt's logits come with the first response only.
  gathered.last = new Map([...gathered.last, ...response.outputs]);
}

async function report(
  flags: InflightFlags,
  prompt: readonly number[],
  gathered: Gathered,
  tokenizer: Tokenizer | undefined,
): Promise<void> {
  if (gathered.isCancelled) print('Request is cancelled');
  else print('Got completed request');
  if (tokenizer) print(`Input: ${flags.text}`);
  const hasPrompt = !flags.streaming && !flags.excludeInputInOutput;
  const sequences = gathered.ids.filter((ids) => ids !== undefined);
  sequences.forEach((ids, beam) => {
    const output = hasPrompt ? ids.slice(prompt.length) : ids;
    if (tokenizer) print(`Output beam ${beam}: ${tokenizer.decode(output, { continuation: true })}`);
    const whole = hasPrompt || flags.excludeInputInOutput ? ids : [...prompt, ...ids];
    print(`Output sequence:  [${whole.join(', ')}]`);
    if (flags.stopAfterMs > 0 && output.length >= flags.requestOutputLen) {
      throw new CliError(
        'CHECK_FAILED',
        'the request ended before it was stopped; give --request-output-len more',
        {
          usage: false,
        },
      );
    }
  });
  for (const [name, tensor] of gathered.last) printExtra(flags, name, tensor);
  if (flags.checkOutput) await check(flags, sequences[0] ?? []);
}

function printExtra(flags: InflightFlags, name: string, tensor: Tensor): void {
  if (name.endsWith('log_probs')) {
    if (flags.returnLogProbs) print(`${name}: ${[...valuesOf(tensor, 'FP32')].join(', ')}`);
  } else if (name.endsWith('_time_ns')) print(`${name}: ${[...valuesOf(tensor, 'INT64')].join(', ')}`);
  else if (/^(?:kv_cache|total)_/.test(name)) print(`${name}: ${[...valuesOf(tensor, 'INT32')].join(', ')}`);
  else if (name.endsWith('_logits')) print(`${name}.shape: (${tensor.shape.join(', ')})`);
  else if (name === 'acceptance_rate') print(`${name}: ${[...valuesOf(tensor, 'FP32')].join(', ')}`);
}

async function check(flags: InflightFlags, ids: readonly number[]): Promise<void> {
  if (flags.outputTokensCsv === undefined) {
    throw new CliError('CLI_ARGUMENT_MISSING', '--check-output needs --output-tokens-csv');
  }
  const expected = await readIds(flags.outputTokensCsv);
  const equal = expected.filter((id, index) => ids[index] === id).length;
  const share = equal / expected.length;
  print(`expected_output = [${expected.join(', ')}]`);
  print(`output_ids = [${ids.join(', ')}]`);
  print(share >= flags.correctnessThreshold ? 'PASS!' : 'FAIL!');
  if (share >= flags.correctnessThreshold) return;
  throw new CliError('CHECK_FAILED', `${equal} of ${expected.length} ids are as expected`, { usage: false });
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function int(name: string, value: number): Tensor {
  return tensorOf(name, 'INT32', [1, 1], Int32Array.of(value));
}

function float(name: string, value: number): Tensor {
  return tensorOf(name, 'FP32', [1, 1], Float32Array.of(value));
}

function truth(name: string, value: boolean): Tensor {
  return tensorOf(name, 'BOOL', [1, 1], Uint8Array.of(value ? 1 : 0));
}

import type { OutputRows } from '../../runtime/outputs/output-rows.ts';
import type { RequestStart } from '../../runtime/requests/events.ts';
import type { Execution } from '../execution.ts';
import { smallInt32Tensor, type Tensor, tensorOf } from '../tensor.ts';
import { joinedRows, type LogitTypes, logitsTensor } from './logits.ts';
import type { TokensMark } from './marks.ts';

/** What a response says beside its tokens. */
export interface SequenceResult {
  isLast: boolean;
  start: RequestStart | undefined;
  nowNs: number;
}

/** What a {@link SequenceOutput} shows. */
export interface OutputOptions {
  prompt: Int32Array;
  /** Whole answers begin with the prompt; streamed ones never do. */
  withPrompt: boolean;
  /** Where the request has several rows. */
  batchIndex: number | undefined;
  /** Where it asked for several sequences. */
  sequenceIndex: number | undefined;
  withLogprobs: boolean;
  withTimes: boolean;
  withInputCount: boolean;
  withOutputCount: boolean;
  /** Logits that the configuration declares, by output. */
  logitTypes: LogitTypes;
  /** Positions of a KV block, or as far as the cache finds prompts by, where it has none. */
  kvBlockPositions: number;
  /** Milliseconds since the epoch minus the clock's, to show absolute times. */
  epochOffsetNs: number;
}

/** The tensors of one sequence: everything at the end, or what came since the last response. */
export class SequenceOutput {
  readonly #execution: Execution;
  readonly #options: OutputOptions;
  readonly #sequence = {};
  #ids: number[] = [];
  #logprobs: number[] = [];
  /** Of the prompt, until they were shown. */
  #contextLogits: OutputRows | undefined;
  /** Of the ids since the last response. */
  #generationLogits: OutputRows[] = [];
  /** Log-probability of all its tokens; a beam search says it itself. */
  sum = 0;
  /** Tokens so far. */
  count = 0;
  /** Of its draft tokens, once it has ended. */
  drafts = { proposed: 0, accepted: 0 };
  #firstTokenNs = 0;

  constructor(execution: Execution, options: OutputOptions) {
    this.#execution = execution;
    this.#options = options;
  }

  get hasNews(): boolean {
    return this.#ids.length > 0;
  }

  /** @param contextLogits where they were asked for */
  begun(nowNs: number, contextLogits: OutputRows | undefined): void {
    this.#firstTokenNs = nowNs;
    this.#contextLogits = contextLogits;
  }

  /** The logits of the last ids that were pushed. */
  pushLogits(rows: OutputRows): void {
    this.#generationLogits.push(rows);
  }

  push(id: number, logprob: number | undefined): void {
    this.#ids.push(id);
    this.count++;
    if (logprob === undefined) return;
    this.#logprobs.push(logprob);
    this.sum += logprob;
  }

  /** The tensors of the next response. */
  take(isStreaming: boolean, result: SequenceResult): Tensor[] {
    const { prompt, withPrompt, batchIndex, sequenceIndex } = this.#options;
    const hasPrompt = withPrompt && !isStreaming;
    const ids = hasPrompt ? [...prompt, ...this.#ids] : this.#ids;
    const { length } = ids;
    const mark: TokensMark = {
      kind: 'tokens',
      sequence: this.#sequence,
      isContinuation: !hasPrompt,
      isLast: result.isLast,
    };
    const shape = length === 1 ? shapeOfOne : [1, 1, length];
    const outputs = [smallInt32Tensor('output_ids', shape, ids, mark), lengthTensor(length)];
    this.#addLogprobs(outputs);
    this.#addLogits(outputs);
    if (batchIndex !== undefined) outputs.push(int32('batch_index', batchIndex));
    if (sequenceIndex !== undefined) outputs.push(int32('sequence_index', sequenceIndex));
    if (this.#options.withInputCount) outputs.push(int32('num_input_tokens', prompt.length));
    if (this.#options.withOutputCount) outputs.push(int32('num_output_tokens', this.count));
    if (this.#options.withTimes) this.#addTimes(outputs, result);
    this.#ids = [];
    this.#logprobs = [];
    return outputs;
  }

  /** Zeros where none were asked for, as the original; only if somebody reads them. */
  #addLogprobs(outputs: Tensor[]): void {
    const { withLogprobs } = this.#options;
    if (withLogprobs || this.#execution.wants('cum_log_probs')) {
      outputs.push(tensorOf('cum_log_probs', 'FP32', [1, 1], Float32Array.of(this.sum)));
    }
    if (!withLogprobs && !this.#execution.wants('output_log_probs')) return;
    const values = new Float32Array(this.#ids.length);
    values.set(this.#logprobs);
    outputs.push(tensorOf('output_log_probs', 'FP32', [1, 1, values.length], values));
  }

  /** Where they were asked for: the prompt's in the first response, the tokens' with them. */
  #addLogits(outputs: Tensor[]): void {
    const { logitTypes } = this.#options;
    const context = this.#contextLogits;
    if (context) {
      const { rows, width, values } = context;
      outputs.push(logitsTensor('context_logits', [1, rows, width], values, logitTypes));
    }
    const [first] = this.#generationLogits;
    if (first) {
      const values = joinedRows(this.#generationLogits);
      const shape = [1, 1, values.length / first.width, first.width];
      outputs.push(logitsTensor('generation_logits', shape, values, logitTypes));
    }
    this.#contextLogits = undefined;
    this.#generationLogits = [];
  }

  #addTimes(outputs: Tensor[], { start, nowNs }: SequenceResult): void {
    const { prompt, epochOffsetNs, kvBlockPositions } = this.#options;
    const { times } = this.#execution;
    const { proposed, accepted } = this.drafts;
    const reused = Math.floor((start?.cachedTokens ?? 0) / kvBlockPositions);
    const total = Math.ceil((prompt.length + this.count) / kvBlockPositions);
    const shown: readonly (readonly [string, number])[] = [
      ['arrival_time_ns', times.arrivedNs],
      ['first_scheduled_time_ns', times.startedNs],
      ['first_token_time_ns', this.#firstTokenNs],
      ['last_token_time_ns', nowNs],
    ];
    for (const [name, ns] of shown) outputs.push(int64(name, ns + epochOffsetNs));
    outputs.push(
      int32('kv_cache_alloc_new_blocks', total - reused),
      int32('kv_cache_reused_blocks', reused),
      int32('kv_cache_alloc_total_blocks', total),
      tensorOf('acceptance_rate', 'FP32', [1, 1], Float32Array.of(proposed > 0 ? accepted / proposed : 0)),
      int32('total_accepted_draft_tokens', accepted),
      int32('total_draft_tokens', proposed),
    );
  }
}

const shapeOfOne = [1, 1, 1] as const;
/** Nearly every streamed response has one token. */
const lengthOfOne = int32('sequence_length', 1);

function lengthTensor(length: number): Tensor {
  return length === 1 ? lengthOfOne : int32('sequence_length', length);
}

function int32(name: string, value: number): Tensor {
  return tensorOf(name, 'INT32', [1, 1], Int32Array.of(value));
}

function int64(name: string, value: number): Tensor {
  return tensorOf(name, 'INT64', [1, 1], BigInt64Array.of(BigInt(Math.round(value))));
}

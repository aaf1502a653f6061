import { StopSequences, wordsOfRow } from '../engine/word-lists.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import type { Inference, InferenceListener, InferRequest, InferResponse, Model } from '../model.ts';
import { type Tensor, tensorOf, valuesOf } from '../tensor.ts';

/** What a request says of the drafts of another model. */
export interface DraftWishes {
  /** Drafts of a round. */
  count: number;
  /** Whether the draft model's logits go with them. */
  withLogits: boolean;
}

/** What the rounds need to know of the text. */
export interface DraftModels {
  engine: Model;
  draft: Model;
  /** Ids that end a text, beside the request's own. */
  stopTokenIds: Promise<readonly number[]>;
}

/** The wishes of a request to a BLS model with a draft model; undefined where it wants no drafts. @throws RepositoryError INVALID_ARGUMENT */
export function draftWishesOf(execution: Execution): DraftWishes | undefined {
  const count = firstOf(execution.input('num_draft_tokens')) ?? 0;
  if (count <= 0) return undefined;
  const isTrue = (name: string): boolean => execution.input(name)?.data[0] === 1;
  const several = ['num_return_sequences', 'beam_width'].find(
    (name) => (firstOf(execution.input(name)) ?? 1) > 1,
  );
  const refused = isTrue('stream')
    ? 'stream'
    : isTrue('return_context_logits')
      ? 'return_context_logits'
      : isTrue('return_generation_logits')
        ? 'return_generation_logits'
        : execution.batchSize > 1
          ? 'a batch size above 1'
          : several;
  if (refused === undefined) return { count, withLogits: isTrue('use_draft_logits') };
  const message = `num_draft_tokens does not go together with ${refused}; leave out one of them`;
  throw new RepositoryError('INVALID_ARGUMENT', message);
}

/**
 * TensorRT-LLM's loop of a target and a draft model, in place of the engine's model in BLS: the draft model says some tokens, the engine verifies them and says one
 * more, until the text ends.
 */
export function draftLoopModel(models: DraftModels, wishes: DraftWishes): Model {
  const { engine } = models;
  return {
    name: engine.name,
    version: engine.version,
    config: engine.config,
    metadata: engine.metadata,
    isDecoupled: engine.isDecoupled,
    labels: (output) => engine.labels(output),
    infer: (request, listener) => new DraftLoop(models, wishes, request, listener).start(),
  };
}

/** Tensors that each round sets itself. */
const own = new Set([
  ...['input_ids', 'input_lengths', 'request_output_len', 'min_tokens', 'exclude_input_in_output'],
  ...['streaming', 'draft_input_ids', 'draft_logits'],
]);

class DraftLoop implements Inference {
  readonly #models: DraftModels;
  readonly #wishes: DraftWishes;
  readonly #request: InferRequest;
  readonly #listener: InferenceListener;
  readonly #prompt: Int32Array;
  readonly #maxTokens: number;
  readonly #minTokens: number;
  readonly #endIds = new Set<number>();
  readonly #stops: StopSequences;
  readonly #ids: number[] = [];
  readonly #logprobs: number[] = [];
  #drafts = { proposed: 0, accepted: 0 };
  #inner: Inference | undefined;
  #isCancelled = false;

  constructor(models: DraftModels, wishes: DraftWishes, request: InferRequest, listener: InferenceListener) {
    this.#models = models;
    this.#wishes = wishes;
    this.#request = request;
    this.#listener = listener;
    const ids = this.#input('input_ids');
    this.#prompt = ids
      ? Int32Array.from(valuesOf(ids, 'INT32').subarray(0, firstOf(this.#input('input_lengths'))))
      : new Int32Array(0);
    this.#maxTokens = firstOf(this.#input('request_output_len')) ?? 0;
    this.#minTokens = firstOf(this.#input('min_tokens')) ?? 0;
    const endId = firstOf(this.#input('end_id'));
    if (endId !== undefined) this.#endIds.add(endId);
    const words = this.#input('stop_words_list');
    this.#stops = new StopSequences(words ? wordsOfRow(words, 0) : []);
  }

  start(): Inference {
    this.#run().catch((thrown: unknown) => this.#fail(thrown));
    return this;
  }

  cancel(): void {
    this.#isCancelled = true;
    this.#inner?.cancel();
  }

  #fail(thrown: unknown): void {
    if (this.#isCancelled) return;
    const error =
      thrown instanceof RepositoryError
        ? thrown
        : new RepositoryError('INTERNAL', String((thrown as Error).message), { cause: thrown });
    this.#listener.respond({ outputs: [], error }, true);
  }

  async #run(): Promise<void> {
    for (const id of await this.#models.stopTokenIds) this.#endIds.add(id);
    let last: InferResponse = { outputs: [] };
    let isOpen = true;
    while (isOpen) {
      const left = this.#maxTokens - this.#ids.length;
      const drafts = await this.#draft(Math.min(this.#wishes.count, left - 1));
      if (this.#isCancelled) return;
      const wanted = Math.min(left, (drafts?.ids.length ?? 0) + 1);
      last = await this.#ask(this.#models.engine, wanted, drafts?.tensors ?? []);
      if (this.#isCancelled) return;
      isOpen = this.#take(last, wanted, drafts?.ids ?? new Int32Array(0));
    }
    this.#listener.respond({ ...last, outputs: this.#outputs(last.outputs) }, true);
  }

  /** What the draft model says next, as the engine's tensors; undefined for nothing. */
  async #draft(count: number): Promise<{ ids: Int32Array; tensors: Tensor[] } | undefined> {
    if (count <= 0) return undefined;
    const { withLogits } = this.#wishes;
    const extra = withLogits ? [truth('return_generation_logits')] : [];
    const { outputs } = await this.#ask(this.#models.draft, count, extra);
    const ids = idsOf(outputs);
    if (ids.length === 0) return undefined;
    const tensors: Tensor[] = [tensorOf('draft_input_ids', 'INT32', [1, ids.length], ids)];
    const logits = outputs.find(({ name }) => name === 'generation_logits');
    if (withLogits && logits) {
      // [1, beams, tokens, vocabulary] of one beam.
      const shape = [1, ids.length, logits.shape.at(-1) ?? 0];
      tensors.push({ name: 'draft_logits', datatype: logits.datatype, shape, data: logits.data });
    }
    return { ids, tensors };
  }

  /** One request of `count` tokens behind what there is. */
  #ask(model: Model, count: number, extra: readonly Tensor[]): Promise<InferResponse> {
    const context = Int32Array.from([...this.#prompt, ...this.#ids]);
    const declared = new Set(model.config.input.map(({ name }) => name));
    const asked = [
      tensorOf('input_ids', 'INT32', [1, context.length], context),
      int('input_lengths', context.length),
      int('request_output_len', count),
      int('min_tokens', Math.max(0, Math.min(count, this.#minTokens - this.#ids.length))),
      truth('exclude_input_in_output'),
      ...extra,
      ...this.#request.inputs.filter(({ name }) => !own.has(name)),
    ];
    const inputs = asked.filter(({ name }) => declared.has(name));
    const { id, parameters, priority, timeoutUs, onTokens } = this.#request;
    return new Promise((resolve, reject) => {
      let answer: InferResponse | undefined;
      const inference = model.infer(
        { id, inputs, parameters, priority, timeoutUs, ...(model === this.#models.engine && { onTokens }) },
        {
          respond: (response, isFinal) => {
            answer = response ?? answer;
            if (answer?.error) reject(answer.error);
            else if (isFinal) resolve(answer ?? { outputs: [] });
          },
        },
      );
      this.#inner = inference;
      if (this.#isCancelled) inference.cancel();
    });
  }

  /** @returns whether the text goes on */
  #take({ outputs }: InferResponse, wanted: number, drafts: Int32Array): boolean {
    const ids = idsOf(outputs);
    const logprobs = outputs.find(({ name }) => name === 'output_log_probs');
    const values = logprobs ? valuesOf(logprobs, 'FP32') : undefined;
    let accepted = 0;
    while (accepted < drafts.length && drafts[accepted] === ids[accepted]) accepted++;
    this.#drafts.proposed += drafts.length;
    this.#drafts.accepted += accepted;
    for (const [index, id] of ids.entries()) {
      this.#ids.push(id);
      this.#logprobs.push(values?.[index] ?? 0);
      const mayStop = this.#ids.length > this.#minTokens;
      if (this.#stops.push(id) && mayStop) return false;
      if (this.#endIds.has(id) && mayStop) return false;
    }
    return ids.length === wanted && this.#ids.length < this.#maxTokens;
  }

  /** The last round's tensors, with what all rounds made. */
  #outputs(outputs: readonly Tensor[]): Tensor[] {
    const excluded = this.#input('exclude_input_in_output');
    const parameter = this.#models.engine.config.parameters.exclude_input_in_output?.string_value;
    const excludes = excluded ? excluded.data[0] === 1 : parameter?.toLowerCase() === 'true';
    const ids = Int32Array.from(excludes ? this.#ids : [...this.#prompt, ...this.#ids]);
    const { proposed, accepted } = this.#drafts;
    const logprobs = Float32Array.from(this.#logprobs);
    const made = new Map(
      [
        tensorOf('output_ids', 'INT32', [1, 1, ids.length], ids),
        tensorOf('sequence_length', 'INT32', [1, 1], Int32Array.of(ids.length)),
        tensorOf('output_log_probs', 'FP32', [1, 1, logprobs.length], logprobs),
        tensorOf(
          'cum_log_probs',
          'FP32',
          [1, 1],
          Float32Array.of(logprobs.reduce((sum, one) => sum + one, 0)),
        ),
        tensorOf('num_input_tokens', 'INT32', [1, 1], Int32Array.of(this.#prompt.length)),
        tensorOf('num_output_tokens', 'INT32', [1, 1], Int32Array.of(this.#ids.length)),
        tensorOf('acceptance_rate', 'FP32', [1, 1], Float32Array.of(proposed > 0 ? accepted / proposed : 0)),
        tensorOf('total_draft_tokens', 'INT32', [1, 1], Int32Array.of(proposed)),
        tensorOf('total_accepted_draft_tokens', 'INT32', [1, 1], Int32Array.of(accepted)),
      ].map((tensor) => [tensor.name, tensor] as const),
    );
    // A tokens' mark is of one round's text alone.
    return outputs.map((tensor) => made.get(tensor.name) ?? tensor);
  }

  #input(name: string): Tensor | undefined {
    return this.#request.inputs.find((tensor) => tensor.name === name);
  }
}

function idsOf(outputs: readonly Tensor[]): Int32Array {
  const tensor = outputs.find(({ name }) => name === 'output_ids');
  return tensor ? Int32Array.from(valuesOf(tensor, 'INT32')) : new Int32Array(0);
}

function firstOf(tensor: Tensor | undefined): number | undefined {
  if (tensor?.datatype !== 'INT32' || tensor.data.length === 0) return undefined;
  return valuesOf(tensor, 'INT32')[0];
}

function int(name: string, value: number): Tensor {
  return tensorOf(name, 'INT32', [1, 1], Int32Array.of(value));
}

function truth(name: string): Tensor {
  return tensorOf(name, 'BOOL', [1, 1], Uint8Array.of(1));
}

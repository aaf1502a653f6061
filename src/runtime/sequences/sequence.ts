import type { KvHandle } from '../kv/kv-cache.ts';
import type { FinishReason, TokenLogprobs } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';
import { compileSampling, type RowSampling } from '../sampling/row-sampling.ts';

export type SequenceState =
  /** Waits for the request's prompt to be computed by another of its sequences. */
  | 'pending'
  /** In the queue: has no place in the KV cache. */
  | 'waiting'
  | 'running'
  | 'finished';

/** A request inside an engine, with its sequences. */
export class ActiveRequest {
  readonly request: GenerationRequest;
  readonly seed: number;
  /** Serial number of arrival; orders requests of one priority. */
  readonly arrival: number;
  readonly arrivalNs: number;
  readonly stopTokens: ReadonlySet<number>;
  readonly sampling: RowSampling;
  /** What may share KV with it. */
  readonly prefixKey: string;
  readonly sequences: readonly Sequence[];
  /** Sequences without a finish yet. */
  unfinished: number;
  /** When its first row was in a step; NaN until then. */
  startNs = Number.NaN;
  /** Whether its first event, with `start`, was emitted. */
  isStarted = false;
  /** All of the prompt was computed once; the other sequences may fork. */
  isPromptComputed = false;
  cachedTokens = 0;
  /** By prompt position; entry 0 stays empty. Absent unless asked for. */
  readonly promptLogprobs: (TokenLogprobs | undefined)[] | undefined;

  constructor(
    request: GenerationRequest,
    given: { seed: number; arrival: number; arrivalNs: number; contextLength: number },
  ) {
    this.request = request;
    this.seed = given.seed;
    this.arrival = given.arrival;
    this.arrivalNs = given.arrivalNs;
    this.stopTokens = new Set(request.stopTokenIds);
    this.sampling = compileSampling(request);
    this.prefixKey = request.cacheSalt ?? '';
    this.unfinished = request.sequences;
    this.promptLogprobs =
      request.promptLogprobs === undefined
        ? undefined
        : new Array(request.promptTokens.length).fill(undefined);
    const positionsWorst = Math.min(request.promptTokens.length + request.maxTokens, given.contextLength);
    this.sequences = Array.from(
      { length: request.sequences },
      (_, index) => new Sequence(this, index, positionsWorst),
    );
  }

  /** Whether rows of the prompt must be computed for their logits' sake even if their KV could be copied. */
  get needsPromptRows(): boolean {
    return this.promptLogprobs !== undefined && !this.isPromptComputed;
  }
}

/** One text that a request grows: the prompt and its own tokens. */
export class Sequence {
  readonly owner: ActiveRequest;
  /** 0-based among the request's. */
  readonly index: number;
  /** KV positions it can come to at most. */
  readonly positionsWorst: number;
  state: SequenceState = 'pending';
  finish: FinishReason | undefined;
  /** To be ended when the step in flight is over. */
  isCancelled = false;
  /** Its place in the KV cache; −1 while it has none. */
  handle: KvHandle = -1;
  /** Positions whose KV is in the cache. */
  computed = 0;
  /** Prompt and output tokens known so far. */
  length: number;
  #tokens: Int32Array;

  constructor(owner: ActiveRequest, index: number, positionsWorst: number) {
    this.owner = owner;
    this.index = index;
    this.positionsWorst = positionsWorst;
    // Shared with the request and its other sequences until the first token is appended.
    this.#tokens = owner.request.promptTokens;
    this.length = this.#tokens.length;
  }

  get priority(): number {
    return this.owner.request.priority;
  }

  get arrival(): number {
    return this.owner.arrival;
  }

  get promptLength(): number {
    return this.owner.request.promptTokens.length;
  }

  get generated(): number {
    return this.length - this.promptLength;
  }

  /** Rows that must run before its next token: 1 in the generation phase, more in the context phase. */
  get rowsPending(): number {
    return this.length - this.computed;
  }

  /** Rows of it in one step at most: rows with a logits row each are dear. */
  get rowsPerStepMax(): number {
    return this.owner.needsPromptRows ? promptLogprobRowsMax : Number.POSITIVE_INFINITY;
  }

  /** All tokens so far; a view, valid until the next {@link push}. */
  get tokens(): Int32Array {
    return this.#tokens.subarray(0, this.length);
  }

  push(token: number): void {
    if (this.length === this.#tokens.length) {
      const grown = new Int32Array(
        Math.min(this.positionsWorst, Math.max(this.length * 2, this.length + 64)),
      );
      grown.set(this.#tokens);
      this.#tokens = grown;
    }
    this.#tokens[this.length++] = token;
  }
}

/** Rows of one request in one step when every row's logits are wanted (prompt log-probabilities). */
export const promptLogprobRowsMax = 32;

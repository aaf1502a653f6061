import { assert } from '../../base/errors.ts';
import { baseModel, want } from '../../device/step.ts';
import type { GrammarLease } from '../guidance/guidance.ts';
import { guidedDraftsMax } from '../guidance/mask-board.ts';
import type { SequenceGuide } from '../guidance/sequence-guide.ts';
import type { KvPlace, TokenSource } from '../kv/kv-cache.ts';
import { prefixKeyOf } from '../kv/prefix-hash.ts';
import type { RequestOutputs } from '../outputs/request-outputs.ts';
import type { Prerequisite } from '../plan/prerequisites.ts';
import type { FinishReason, SequenceEvent, TokenLogprobs } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';
import type { LogitRow } from '../sampling/logit-row.ts';
import { compileSampling, type RowSampling } from '../sampling/row-sampling.ts';
import { SamplingHistory } from '../sampling/sampling-history.ts';
import type { RowConsumer } from '../step/row-consumer.ts';
import { TokenCounts } from './token-counts.ts';

export type SequenceState =
  /** Waits for a prerequisite, or for the request's prompt to be computed by another of its sequences. */
  | 'pending'
  /** In the queue: has no place in the KV cache. */
  | 'waiting'
  | 'running'
  | 'finished';

/** What the engine adds to a request when it takes it. */
export interface RequestFacts {
  seed: number;
  /** Serial number of arrival; orders requests of one priority. */
  arrival: number;
  arrivalNs: number;
  contextLength: number;
  prerequisites: readonly Prerequisite[];
  /** One of the prerequisites, of a guided request. */
  grammar: GrammarLease | undefined;
  outputs: RequestOutputs | undefined;
}

/** A request inside an engine, with its sequences. */
export class ActiveRequest {
  readonly request: GenerationRequest;
  readonly seed: number;
  readonly arrival: number;
  readonly arrivalNs: number;
  readonly stopTokens: ReadonlySet<number>;
  readonly sampling: RowSampling;
  /** What may share KV with it. */
  readonly prefixKey: string;
  readonly prerequisites: readonly Prerequisite[];
  readonly grammar: GrammarLease | undefined;
  readonly sequences: readonly Sequence[];
  /** Sequences without a finish yet. */
  unfinished: number;
  /** Where its adapter is on the device, once it is there. */
  adapterSlot: number = baseModel;
  /** All prerequisites are there. */
  isReady = false;
  /** When its first row was in a step; NaN until then. */
  startNs = Number.NaN;
  /** Whether its first event, with `start`, was emitted. */
  isStarted = false;
  /** All of the prompt was computed once; the other sequences may fork. */
  isPromptComputed = false;
  cachedTokens = 0;
  /** Gathers what it wants to see beside its tokens; absent where it wants nothing. */
  readonly outputs: RequestOutputs | undefined;
  /** What every row of its prompt is to give, as bits of `want`; 0 for nothing. */
  readonly promptWants: number;
  /** By prompt position; entry 0 stays empty. Absent unless asked for. */
  readonly promptLogprobs: (TokenLogprobs | undefined)[] | undefined;

  constructor(request: GenerationRequest, facts: RequestFacts) {
    this.request = request;
    this.seed = facts.seed;
    this.arrival = facts.arrival;
    this.arrivalNs = facts.arrivalNs;
    this.prerequisites = facts.prerequisites;
    this.grammar = facts.grammar;
    this.stopTokens = new Set(request.stopTokenIds);
    this.sampling = compileSampling(request);
    this.outputs = facts.outputs;
    this.promptWants = promptWantsOf(request);
    this.prefixKey = prefixKeyOf(request);
    this.promptLogprobs =
      request.promptLogprobs === undefined
        ? undefined
        : new Array(request.promptTokens.length).fill(undefined);
    const positionsWorst = Math.min(request.promptTokens.length + request.maxTokens, facts.contextLength);
    const count = request.beams?.width ?? request.sequences;
    this.unfinished = count;
    this.sequences = Array.from({ length: count }, (_, index) => new Sequence(this, index, positionsWorst));
  }

  /** Whether rows of the prompt must be computed for their logits' sake even if their KV could be copied. */
  get needsPromptRows(): boolean {
    return this.promptWants !== 0 && !this.isPromptComputed;
  }

  /** Whether nothing follows its prompt. */
  get isPromptOnly(): boolean {
    return this.request.maxTokens === 0;
  }

  /** What the last row of a prompt that nothing follows is to give, as bits of `want`. */
  get endWants(): number {
    return this.promptWants | (this.request.returns?.pooling ? want.hidden : 0);
  }
}

function promptWantsOf({ promptLogprobs, returns }: GenerationRequest): number {
  const isLogits = promptLogprobs !== undefined || returns?.contextLogits;
  const isHidden = returns?.contextHidden || returns?.pooling === 'mean';
  return (isLogits ? want.logits : 0) | (isHidden ? want.hidden : 0);
}

/**
 * One text that a request grows: the prompt and its own tokens. Steps may be in flight: `launched` positions were handed to the device, of which
 * `committed` are known to be done; `tokensInFlight` tokens were chosen on the device, or are being chosen, and are not known here yet.
 */
export class Sequence implements TokenSource {
  readonly owner: ActiveRequest;
  /** 0-based among the request's. */
  readonly index: number;
  /** KV positions it can come to at most. */
  readonly positionsWorst: number;
  /** Makes its next token of an output row. Set once, by whoever runs the loop. */
  consumer: RowConsumer | undefined;
  state: SequenceState = 'pending';
  finish: FinishReason | undefined;
  /** Its place in the KV cache, while it has one. */
  place: KvPlace | undefined;
  /** Where the device keeps what its sampling depends on; −1 for nowhere. */
  samplingState = -1;
  /** Whether {@link samplingState} is yet to be filled by the next step. */
  needsStateLoad = false;
  /** Says which tokens may come next, while it runs and is guided. */
  guide: SequenceGuide | undefined;
  /** Logits of a row that wait for what the guide says. */
  deferred: LogitRow | undefined;
  /** It gives up its memory as soon as nothing of it is in flight, and computes its tokens anew later. */
  isPausing = false;
  /** Positions whose rows were launched. */
  launched = 0;
  /** Positions whose KV is in the cache for certain. */
  committed = 0;
  /** Steps in flight that hold rows of it. */
  inFlight = 0;
  tokensInFlight = 0;
  /** Which output row of which step chooses the newest token in flight. */
  outputRow = -1;
  outputSerial = -1;
  /** The host chooses its next token, or how many of its drafts hold: it cannot run again before the step's output is here. */
  isHostChoosing = false;
  /** A beam that waits for what another one says: it has its place in the cache, and nothing to compute. */
  isHeld = false;
  /** Its rows give their final hidden states, from which its drafts are made. */
  showsHidden = false;
  /** It is to have drafts: its next step waits for its newest token, from which they are guessed. */
  isSpeculating = false;
  /** What may come next, for the next step to verify; good for the present {@link length} only. */
  drafts: readonly number[] = noDrafts;
  /** Its drafts so far that a step verified, and those of them that held. */
  draftTokens = 0;
  acceptedDraftTokens = 0;
  /** Prompt and output tokens known so far. */
  length: number;
  /** Its event of the step that is being emitted. */
  event: SequenceEvent | undefined;
  #tokens: Int32Array;
  #counts: TokenCounts | undefined;
  #history: SamplingHistory | undefined;

  constructor(owner: ActiveRequest, index: number, positionsWorst: number) {
    this.owner = owner;
    this.index = index;
    this.positionsWorst = positionsWorst;
    // Shared with the request and its other sequences until the first token is appended.
    this.#tokens = owner.request.promptTokens;
    this.length = this.#tokens.length;
  }

  /** Places in the cache that it takes when it is admitted: of beams the first takes all. */
  get places(): number {
    return this.owner.request.beams?.width ?? 1;
  }

  get priority(): number {
    return this.owner.request.priority;
  }

  get arrival(): number {
    return this.owner.arrival;
  }

  get prefixKey(): string {
    return this.owner.prefixKey;
  }

  get isQueued(): boolean {
    return this.state === 'waiting';
  }

  /** What it computes will be in the cache for others. */
  get isComputing(): boolean {
    return this.state === 'running' && !this.isPausing;
  }

  get promptLength(): number {
    return this.owner.request.promptTokens.length;
  }

  /** Tokens made and known. */
  get generated(): number {
    return this.length - this.promptLength;
  }

  /** Tokens known or under way. */
  get positionsKnown(): number {
    return this.length + this.tokensInFlight;
  }

  get isGenerating(): boolean {
    return this.length + this.tokensInFlight - this.launched <= 1;
  }

  /** Rows that could run now: 1 in the generation phase, more in the context phase; 0 while it must wait for what is in flight. */
  get rowsReady(): number {
    if (this.isPausing || this.isHeld) return 0;
    if (this.tokensInFlight > 0 && (this.isHostBound || this.positionsKnown >= this.positionsWorst)) return 0;
    return this.positionsKnown - this.launched;
  }

  /** Whether its next token is chosen from logits because somebody wants to see those. */
  get showsLogits(): boolean {
    const { returns } = this.owner.request;
    if (!returns) return false;
    return (
      returns.generationLogits === true || (returns.contextLogits === true && !this.owner.isPromptComputed)
    );
  }

  /** Whether its next rows wait for what the host does with its newest token. */
  get isHostBound(): boolean {
    return this.isHostChoosing || this.isSpeculating;
  }

  /** Its newest token is known, and alone is not computed: drafts may be guessed for its next step. */
  get isAwaitingStep(): boolean {
    return this.tokensInFlight === 0 && this.length - this.launched === 1 && !this.isPausing;
  }

  /** Drafts that may run behind its last known token; at most so many that the tokens they may bring fit. */
  get rowsOptional(): number {
    if (this.drafts.length === 0 || this.tokensInFlight > 0) return 0;
    const most = this.guide ? Math.min(this.drafts.length, guidedDraftsMax) : this.drafts.length;
    return Math.max(0, Math.min(most, this.positionsWorst - this.length - 1));
  }

  /** Rows of it in one step at most: rows with a logits row each are dear. */
  get rowsPerStepMax(): number {
    const { owner } = this;
    const isDear = owner.needsPromptRows && (owner.promptWants & want.logits) !== 0;
    return isDear ? promptLogprobRowsMax : Number.POSITIVE_INFINITY;
  }

  tokenAt(position: number): number {
    return this.#tokens[position] as number;
  }

  /** Copies tokens [from, to) to `target` at `at`. */
  copyTokens(from: number, to: number, target: Int32Array, at: number): void {
    if (to - from === 1) target[at] = this.#tokens[from] as number;
    else target.set(this.#tokens.subarray(from, to), at);
  }

  /** All its own tokens; a copy. */
  outputTokens(): Int32Array {
    return this.#tokens.slice(this.promptLength, this.length);
  }

  /** How often each token stands in it, for penalties on the host; made when first asked for. */
  get counts(): TokenCounts {
    if (!this.#counts) {
      this.#counts = new TokenCounts(this.owner.request.promptTokens);
      for (let position = this.promptLength; position < this.length; position++) {
        this.#counts.add(this.tokenAt(position));
      }
    }
    return this.#counts;
  }

  /** What bans and a decaying top-p depend on; made when first asked for. */
  get history(): SamplingHistory {
    if (!this.#history) {
      this.#history = new SamplingHistory(this.owner.sampling, this.owner.request.promptTokens);
      for (let position = this.promptLength; position < this.length; position++) {
        this.#history.add(this.tokenAt(position));
      }
    }
    return this.#history;
  }

  /** Goes on behind what another sequence of its request said. */
  adopt(other: Sequence): void {
    this.#tokens = other.#tokens.slice();
    this.length = other.length;
    this.#counts = undefined;
    this.#history = undefined;
  }

  push(token: number): void {
    assert(this.length < this.positionsWorst, 'a token inside the room that was reserved');
    if (this.length === this.#tokens.length) {
      const grown = new Int32Array(
        Math.max(this.length + 1, Math.min(this.positionsWorst, Math.max(this.length * 2, this.length + 64))),
      );
      grown.set(this.#tokens);
      this.#tokens = grown;
    }
    this.#tokens[this.length++] = token;
    this.#counts?.add(token);
    this.drafts = noDrafts;
    this.#history?.add(token);
  }
}

const noDrafts: readonly number[] = [];

/** Rows of one request in one step when every row's logits are wanted (prompt log-probabilities, context logits). */
export const promptLogprobRowsMax = 32;

import { monotonicMs } from '../../base/monotonic.ts';
import type { RequestRecord } from '../record.ts';
import type { AnswerListener, ChatMessage, Target } from '../target/target.ts';
import type { PlannedSession, PlannedTurn } from '../workload/plan.ts';

/** What one turn of a session is measured with. */
export interface ExchangeOptions {
  target: Target;
  /** The run's start on {@link monotonicMs}. */
  startMs: number;
  worker: number;
  scheduledMs?: number;
  keepsText: boolean;
}

/** One request in flight: sends a turn, times its outputs, and ends in a record exactly once. */
export class Exchange {
  readonly record: RequestRecord;
  /** The answer's text, where it is kept or a next turn needs it. */
  text = '';
  readonly #turn: PlannedTurn;
  readonly #keepsText: boolean;
  readonly #sentMs: number;
  readonly #onEnd: (exchange: Exchange) => void;
  #cancel: () => void = () => {};
  #over = false;
  #tokens = 0;
  #countsTokens = false;

  /** @param onEnd once, never before the constructor returned */
  constructor(
    session: PlannedSession,
    turnIndex: number,
    messages: readonly ChatMessage[],
    options: ExchangeOptions,
    onEnd: (exchange: Exchange) => void,
  ) {
    const turn = session.turns[turnIndex] as PlannedTurn;
    this.#turn = turn;
    this.#onEnd = onEnd;
    this.#keepsText = options.keepsText || turnIndex + 1 < session.turns.length;
    const text = messages.length > 1 ? messages.map(({ content }) => content).join('\n') : (turn.text ?? '');
    const request = {
      text,
      tokens: turn.tokens,
      messages,
      model: session.model,
      outputTokensMax: turn.outputTokensMax,
    };
    this.#sentMs = monotonicMs();
    this.record = {
      session: session.index,
      turn: turnIndex,
      worker: options.worker,
      ...(session.model === undefined ? {} : { model: session.model }),
      ...(options.scheduledMs === undefined ? {} : { scheduledMs: options.scheduledMs }),
      sentMs: this.#sentMs - options.startMs,
      outputMs: [],
      endMs: 0,
      inputTokens: turn.inputTokens,
      outputTokens: 0,
      tokenCountSource: 'parts',
      outcome: 'completed',
    };
    this.#cancel = options.target.send(request, this.#listener());
  }

  /** Ends it because the run ends. */
  stop(): void {
    if (this.#over) return;
    this.#cancel();
    this.#end(monotonicMs(), 'stopped');
  }

  #listener(): AnswerListener {
    const { record } = this;
    const cancelAfter = this.#turn.cancelAfterOutputs ?? Number.POSITIVE_INFINITY;
    return {
      output: (atMs, text, tokens) => {
        if (this.#over) return;
        record.outputMs.push(atMs - this.#sentMs);
        if (this.#keepsText) this.text += text;
        this.#tokens += tokens ?? 1;
        if (tokens !== undefined) this.#countsTokens = true;
        if (record.outputMs.length < cancelAfter) return;
        this.#cancel();
        this.#end(atMs, 'cancelled');
      },
      end: (atMs, end) => {
        if (this.#over) return;
        if (end.inputTokens !== undefined) record.inputTokens = end.inputTokens;
        if (end.cachedTokens !== undefined) record.cachedTokens = end.cachedTokens;
        if (end.finishReason !== undefined) record.finishReason = end.finishReason;
        if (end.outputTokens !== undefined) {
          this.#tokens = end.outputTokens;
          record.tokenCountSource = 'usage';
        }
        // A stream that ended without anything is no answer; servers under load do such things.
        if (record.outputMs.length === 0) {
          record.error = 'the answer ended without any output';
          this.#end(atMs, 'failed');
        } else this.#end(atMs, 'completed');
      },
      fail: (atMs, reason) => {
        if (this.#over) return;
        record.error = reason;
        this.#end(atMs, 'failed');
      },
    };
  }

  #end(atMs: number, outcome: RequestRecord['outcome']): void {
    this.#over = true;
    const { record } = this;
    record.endMs = atMs - this.#sentMs;
    record.outcome = outcome;
    record.outputTokens = this.#tokens;
    if (this.#countsTokens && record.tokenCountSource === 'parts') record.tokenCountSource = 'ids';
    if (this.#keepsText) record.text = this.text;
    // A target may fail inside send(): the caller must have the exchange first.
    queueMicrotask(() => this.#onEnd(this));
  }
}

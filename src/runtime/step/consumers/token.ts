import { assert, definite } from '../../../base/errors.ts';
import { uniform } from '../../../base/random.ts';
import { noTokenPossible, type RowLogprobs, type StepOutput } from '../../../device/step.ts';
import { RuntimeError } from '../../errors.ts';
import { guideState } from '../../guidance/mask-board.ts';
import type { SequenceGuide } from '../../guidance/sequence-guide.ts';
import type { RequestOutputs } from '../../outputs/request-outputs.ts';
import type { TokenLogprobs } from '../../requests/events.ts';
import { type LogitRow, probabilitiesOf, rowOf } from '../../sampling/logit-row.ts';
import { tokenLogprobs } from '../../sampling/logprobs.ts';
import type { ProbabilityRow } from '../../sampling/probability-row.ts';
import { noToken, nothingAllowed, type Sampler } from '../../sampling/sampler.ts';
import type { Sequence } from '../../sequences/sequence.ts';
import type { RowConsumer, RowPlace } from '../row-consumer.ts';

/** What happens with a sequence's next token. */
export interface TokenSink {
  token(sequence: Sequence, token: number, logprobs: TokenLogprobs | undefined): void;
  /** Nothing may follow: its text is complete. */
  complete(sequence: Sequence): void;
  /** Whether a guide has answered, or does while the step may still wait for it. */
  isAnswered(guide: SequenceGuide): boolean;
  /** Its token cannot be chosen before its guide has answered; {@link TokenConsumer.resume} then. */
  deferred(sequence: Sequence): void;
  /** The final hidden state of the sequence's last known token, a row of `values`. */
  hidden(sequence: Sequence, values: Float32Array, row: number): void;
  /** No token can be chosen. */
  failed(sequence: Sequence, error: RuntimeError): void;
}

/** Makes an output row into its sequence's next token: the one that the device chose, or one chosen here from logits. */
export class TokenConsumer implements RowConsumer {
  readonly #sequence: Sequence;
  readonly #sampler: Pick<Sampler, 'sample'>;
  readonly #vocabularySize: number;
  readonly #sink: TokenSink;

  constructor(sequence: Sequence, sampler: Pick<Sampler, 'sample'>, vocabularySize: number, sink: TokenSink) {
    this.#sequence = sequence;
    this.#sampler = sampler;
    this.#vocabularySize = vocabularySize;
    this.#sink = sink;
  }

  take(output: StepOutput, place: RowPlace): void {
    const sequence = this.#sequence;
    sequence.tokensInFlight--;
    // It ended, or was cancelled, while the step ran.
    if (sequence.state === 'finished') return;
    this.choose(output, place);
  }

  /** Makes the row into the next token of a sequence that has not ended. */
  choose(output: StepOutput, place: RowPlace): void {
    const sequence = this.#sequence;
    if (place.hidden >= 0) {
      this.#sink.hidden(sequence, definite(output.rowHidden, 'hidden states').values, place.hidden);
    }
    try {
      if (place.logits >= 0) this.#chooseOrDefer(output, place.logits);
      else this.#takeChosen(output, place);
    } catch (thrown) {
      if (!(thrown instanceof RuntimeError)) throw thrown;
      this.#sink.failed(sequence, thrown);
    }
  }

  #takeChosen(output: StepOutput, { row, logprobs }: RowPlace): void {
    const sequence = this.#sequence;
    const token = output.tokens[row] as number;
    if (token === noTokenPossible) throw noToken(sequence.length);
    assert(token >= 0, 'the device chose a token');
    const known =
      logprobs < 0
        ? undefined
        : chosenLogprobs(definite(output.logprobs, 'log-probabilities'), logprobs, sequence);
    this.#sink.token(sequence, token, known);
  }

  /** Chooses the token of a deferred row, whose guide has answered. */
  resume(): void {
    const sequence = this.#sequence;
    const row = definite(sequence.deferred, 'a deferred row');
    sequence.deferred = undefined;
    sequence.tokensInFlight--;
    try {
      this.#choose(row);
    } catch (thrown) {
      if (!(thrown instanceof RuntimeError)) throw thrown;
      this.#sink.failed(sequence, thrown);
    }
  }

  #chooseOrDefer(output: StepOutput, index: number): void {
    const sequence = this.#sequence;
    const { guide } = sequence;
    const logits = definite(output.logits, 'logits');
    const row = rowOf(logits, index, this.#vocabularySize);
    if (!guide || this.#sink.isAnswered(guide)) {
      this.#choose(row, probabilitiesOf(logits, index, this.#vocabularySize));
      return;
    }
    // The device will write over its logits; the others go on meanwhile.
    const { start, width } = row;
    sequence.deferred = { logits: row.logits.slice(start, start + width), start: 0, width };
    sequence.tokensInFlight++;
    this.#sink.deferred(sequence);
  }

  /** Hands a chosen token's logits to who asked for them; the first token's are the last of the context's, too. */
  #show(row: LogitRow, outputs: RequestOutputs): void {
    const { owner, index, generated, promptLength } = this.#sequence;
    if (!owner.isPromptComputed) outputs.contextLogits(promptLength - 1, row);
    outputs.generationLogits(index, generated, row);
  }

  #choose(row: LogitRow, probabilities?: ProbabilityRow): void {
    const sequence = this.#sequence;
    const { sampling, seed } = sequence.owner;
    const { guide } = sequence;
    const state = guide?.state;
    if (state === guideState.done) {
      this.#sink.complete(sequence);
      return;
    }
    if (state === guideState.stuck) throw nothingAllowed(sequence.length);
    const token = this.#sampler.sample(row, {
      sampling,
      generated: sequence.generated,
      position: sequence.length,
      counts: sampling.hasPenalties ? sequence.counts : undefined,
      history: sampling.needsHistory ? sequence.history : undefined,
      probabilities,
      mask: guide?.mask,
      uniform: sampling.isGreedy ? 0 : uniform(seed, sequence.index, sequence.length),
    });
    const logprobs = sampling.logprobs < 0 ? undefined : tokenLogprobs(row, token, sampling.logprobs);
    if (sequence.owner.outputs) this.#show(row, sequence.owner.outputs);
    this.#sink.token(sequence, token, logprobs);
  }
}

/** A row's log-probabilities as the device made them: the first entries that the request asked for, as far as there are tokens. */
function chosenLogprobs(
  { chosen, perRow, ids, values }: RowLogprobs,
  row: number,
  { owner }: Sequence,
): TokenLogprobs {
  const start = row * perRow;
  let end = start + Math.min(perRow, owner.sampling.logprobs);
  while (end > start && values[end - 1] === Number.NEGATIVE_INFINITY) end--;
  return {
    logprob: chosen[row] as number,
    top: { tokens: ids.slice(start, end), logprobs: values.slice(start, end) },
  };
}

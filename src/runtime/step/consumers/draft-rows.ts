import type { StepOutput } from '../../../device/step.ts';
import type { Sequence } from '../../sequences/sequence.ts';
import type { DraftConsumer, RowPlace } from '../row-consumer.ts';
import type { TokenConsumer } from './token.ts';

/** Hears what became of a step's drafts. */
export interface DraftSink {
  /** @param accepted the first so many of the drafts were what the sequence says */
  verified(sequence: Sequence, drafts: number, accepted: number): void;
  /** The final hidden state of a sequence's last known token, a row of `values`. */
  hidden(sequence: Sequence, values: Float32Array, row: number): void;
}

/**
 * Verifies drafts by equality: each output row makes the sequence's own next token, as if there were no drafts, and a row behind a draft counts as
 * long as all drafts before it were those tokens. Draws are keyed by (seed, sequence, position), so what comes out is what plain
 * decoding says, sampled or greedy, with one token more than there were accepted drafts. Where drafts came with their logits, `tokens` chooses by the
 * rejection rule instead (`speculation/rejection.ts`): it says the draft where the draft holds.
 */
export class DraftRows implements DraftConsumer {
  readonly needsLogits: boolean;
  readonly #sequence: Sequence;
  readonly #drafts: readonly number[];
  readonly #tokens: TokenConsumer;
  readonly #sink: DraftSink;
  #row = 0;
  #accepted = 0;
  #isFollowed = true;

  /** @param needsLogits whether `tokens` chooses by another rule than devices know */
  constructor(
    sequence: Sequence,
    drafts: readonly number[],
    tokens: TokenConsumer,
    sink: DraftSink,
    needsLogits = false,
  ) {
    this.needsLogits = needsLogits;
    this.#sequence = sequence;
    this.#drafts = drafts;
    this.#tokens = tokens;
    this.#sink = sink;
  }

  take(output: StepOutput, place: RowPlace): void {
    const sequence = this.#sequence;
    const row = this.#row++;
    if (row === 0) {
      sequence.tokensInFlight--;
      this.#isFollowed = sequence.state !== 'finished';
    }
    if (this.#isFollowed) this.#follow(output, place, row);
    if (row === this.#drafts.length) this.#sink.verified(sequence, row, this.#accepted);
  }

  #follow(output: StepOutput, place: RowPlace, row: number): void {
    const sequence = this.#sequence;
    const { length } = sequence;
    this.#tokens.choose(output, place);
    const isDraft = sequence.length > length && sequence.tokenAt(length) === this.#drafts[row];
    if (isDraft) this.#accepted++;
    this.#isFollowed = isDraft && sequence.state !== 'finished';
  }
}

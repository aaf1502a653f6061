import { definite } from '../../../base/errors.ts';
import type { StepOutput } from '../../../device/step.ts';
import { RuntimeError } from '../../errors.ts';
import { type LogitRow, rowOf } from '../../sampling/logit-row.ts';
import { tokenLogprobs } from '../../sampling/logprobs.ts';
import type { Sequence } from '../../sequences/sequence.ts';
import type { RowConsumer, RowPlace } from '../row-consumer.ts';

/** What happens with a prompt whose rows ask for something. */
export interface PromptSink {
  /** All of a prompt that no token follows is computed. */
  promptDone(sequence: Sequence): void;
  failed(sequence: Sequence, error: RuntimeError): void;
}

/** Takes the output row of the prompt's token at `position`: the log-probability of the token behind it, its logits, its hidden state. */
export class PromptRowConsumer implements RowConsumer {
  readonly #sequence: Sequence;
  readonly #position: number;
  readonly #vocabularySize: number;
  readonly #sink: PromptSink;

  constructor(sequence: Sequence, position: number, vocabularySize: number, sink: PromptSink) {
    this.#sequence = sequence;
    this.#position = position;
    this.#vocabularySize = vocabularySize;
    this.#sink = sink;
  }

  take(output: StepOutput, { logits, hidden }: RowPlace): void {
    const sequence = this.#sequence;
    const { outputs, isPromptOnly } = sequence.owner;
    try {
      if (logits >= 0) {
        const row = rowOf(definite(output.logits, 'logits'), logits, this.#vocabularySize);
        this.#takeLogprob(row);
        outputs?.contextLogits(this.#position, row);
      }
      if (hidden >= 0) {
        outputs?.contextHidden(this.#position, definite(output.rowHidden, 'hidden states'), hidden);
      }
    } catch (thrown) {
      if (!(thrown instanceof RuntimeError)) throw thrown;
      this.#sink.failed(sequence, thrown);
    }
    const isLast = this.#position === sequence.promptLength - 1;
    if (isLast && isPromptOnly && sequence.state !== 'finished') this.#sink.promptDone(sequence);
  }

  #takeLogprob(row: LogitRow): void {
    const { promptLogprobs, request } = this.#sequence.owner;
    if (!promptLogprobs) return;
    const next = this.#position + 1;
    const token = definite(request.promptTokens[next], 'prompt token');
    promptLogprobs[next] = tokenLogprobs(row, token, request.promptLogprobs ?? 0);
  }
}

import { definite } from '../../../base/errors.ts';
import type { StepOutput } from '../../../device/step.ts';
import { rowOf } from '../../sampling/logit-row.ts';
import { tokenLogprobs } from '../../sampling/logprobs.ts';
import type { ActiveRequest } from '../../sequences/sequence.ts';
import type { RowConsumer, RowPlace } from '../row-consumer.ts';

/** Makes an output row into the log-probability of the prompt's token at `position`, the one behind the row. */
export class PromptLogprobConsumer implements RowConsumer {
  readonly #request: ActiveRequest;
  readonly #position: number;
  readonly #vocabularySize: number;

  constructor(request: ActiveRequest, position: number, vocabularySize: number) {
    this.#request = request;
    this.#position = position;
    this.#vocabularySize = vocabularySize;
  }

  take(output: StepOutput, { logits }: RowPlace): void {
    const { promptLogprobs, request } = this.#request;
    const row = rowOf(definite(output.logits, 'logits'), logits, this.#vocabularySize);
    const token = definite(request.promptTokens[this.#position], 'prompt token');
    definite(promptLogprobs, 'room for log-probabilities')[this.#position] = tokenLogprobs(
      row,
      token,
      request.promptLogprobs ?? 0,
    );
  }
}

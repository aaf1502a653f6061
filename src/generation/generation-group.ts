import type { NereidError } from '../base/errors.ts';
import type { RequestStart } from '../runtime/requests/events.ts';
import {
  Generation,
  type GenerationDelta,
  type GenerationInput,
  type GenerationOptions,
  type GenerationUsage,
  type TextModel,
} from './generation.ts';

/** What a protocol does with the parts of one answer. A choice is one sequence of one prompt: prompt × sequences + sequence. */
export interface Answer {
  /** Before the first delta of a prompt's choices. */
  start(prompt: number, start: RequestStart): void;
  delta(choice: number, delta: GenerationDelta): void;
  /** Nothing follows. */
  end(usage: GenerationUsage): void;
  /** Nothing follows. */
  fail(error: NereidError): void;
}

/** The generations of one client request (one a prompt) as one: they end together, and fail together at the first failure. */
export class GenerationGroup {
  readonly #generations: Generation[] = [];
  readonly #answer: Answer;
  #open: number;
  #closed = false;

  /** Submits all or none. @throws what {@link Generation} throws */
  constructor(
    model: TextModel,
    inputs: readonly GenerationInput[],
    answer: Answer,
    options: GenerationOptions = {},
  ) {
    this.#answer = answer;
    this.#open = inputs.length;
    try {
      inputs.forEach((input, prompt) => {
        this.#generations.push(this.#submit(model, input, prompt, options));
      });
    } catch (error) {
      this.cancel();
      throw error;
    }
  }

  /** Ends them all; the answer hears no more. */
  cancel(): void {
    this.#closed = true;
    for (const generation of this.#generations) generation.cancel();
  }

  /** The engine's id of the first one, for the tracer; −1 if there is none. */
  get requestId(): number {
    return this.#generations[0]?.requestId ?? -1;
  }

  /** Token counts so far, added up. */
  get usage(): GenerationUsage {
    const sum: GenerationUsage = { promptTokens: 0, cachedTokens: 0, completionTokens: 0 };
    for (const { usage } of this.#generations) {
      sum.promptTokens += usage.promptTokens;
      sum.cachedTokens += usage.cachedTokens;
      sum.completionTokens += usage.completionTokens;
      if (!usage.drafts) continue;
      sum.drafts ??= { proposed: 0, accepted: 0 };
      sum.drafts.proposed += usage.drafts.proposed;
      sum.drafts.accepted += usage.drafts.accepted;
    }
    return sum;
  }

  #submit(model: TextModel, input: GenerationInput, prompt: number, options: GenerationOptions): Generation {
    const answer = this.#answer;
    const firstChoice = prompt * input.sequences;
    const listener = {
      start: (start: RequestStart) => answer.start(prompt, start),
      delta: (delta: GenerationDelta) => answer.delta(firstChoice + delta.sequence, delta),
      end: () => this.#ended(),
      fail: (error: NereidError) => this.#failed(error),
    };
    return new Generation(model, input, listener, options);
  }

  #ended(): void {
    this.#open--;
    if (this.#open > 0 || this.#closed) return;
    this.#closed = true;
    this.#answer.end(this.usage);
  }

  #failed(error: NereidError): void {
    if (this.#closed) return;
    this.cancel();
    this.#answer.fail(error);
  }
}

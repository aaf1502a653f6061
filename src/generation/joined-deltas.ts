import { appendedOutputs } from '../runtime/outputs/output-rows.ts';
import type { TokenLogprobs } from '../runtime/requests/events.ts';
import type { GenerationDelta } from './sequence-text.ts';

/** A delta that others of its sequence may be added to. */
interface OpenDelta extends GenerationDelta {
  tokens: number[];
  logprobs?: TokenLogprobs[];
}

/** A delta of its own, since a step's arrays may be used again by whoever made them. */
export function openDelta(delta: GenerationDelta): GenerationDelta {
  const { tokens, logprobs } = delta;
  return { ...delta, tokens: [...tokens], logprobs: logprobs && [...logprobs] };
}

/** Adds the same sequence's next delta to one from {@link openDelta}: afterwards it is what one step with all their tokens would have made. */
export function joinDelta(into: GenerationDelta, next: GenerationDelta): void {
  const open = into as OpenDelta;
  open.text += next.text;
  for (const token of next.tokens) open.tokens.push(token);
  if (next.logprobs) {
    // Absent so far only where there was no token.
    open.logprobs ??= [];
    for (const each of next.logprobs) open.logprobs.push(each);
  }
  if (next.outputs) open.outputs = appendedOutputs(open.outputs, next.outputs);
  open.embedding ??= next.embedding;
  open.tokenCount = next.tokenCount;
  open.finish = next.finish;
  open.stopReason = next.stopReason;
}

/** Joins what a sequence says in several steps. The first token and the end are never held back. */
export class DeltaJoiner {
  readonly #interval: number;
  #held: GenerationDelta | undefined;
  /** Steps with tokens that {@link #held} is of. */
  #steps = 0;
  #isFirst = true;

  /** @param interval steps that are joined; 2 or more */
  constructor(interval: number) {
    this.#interval = interval;
  }

  /** @returns what is due: this delta with all that was held back before it, or undefined when it is held back too */
  push(delta: GenerationDelta): GenerationDelta | undefined {
    if (this.#isFirst) {
      this.#isFirst = delta.tokens.length === 0;
      return delta;
    }
    if (this.#held) joinDelta(this.#held, delta);
    else this.#held = openDelta(delta);
    if (delta.tokens.length > 0) this.#steps++;
    return delta.finish || this.#steps >= this.#interval ? this.flush() : undefined;
  }

  /** What was held back, if anything. */
  flush(): GenerationDelta | undefined {
    const held = this.#held;
    this.#held = undefined;
    this.#steps = 0;
    return held;
  }
}

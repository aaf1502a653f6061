import type { SequenceEvent } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';

/** Tokens to come that are counted of one sequence at most: clients often leave `maxTokens` at all that the context holds, and end long before. */
export const outputTokensCounted = 256;

/** Tokens that one engine still has to compute for what a pool sent to it. */
export class EngineLoad {
  tokensOutstanding = 0;

  /** @param tokensKnown of the prompt, which the engine need not compute */
  add(
    request: Pick<GenerationRequest, 'promptTokens' | 'sequences' | 'maxTokens'>,
    tokensKnown: number,
  ): RequestLoad {
    const prompt = request.promptTokens.length - tokensKnown;
    const outputs = request.sequences * Math.min(request.maxTokens, outputTokensCounted);
    this.tokensOutstanding += prompt + outputs;
    return new RequestLoad(this, { prompt, outputs, open: request.sequences });
  }
}

/** One request's part of an {@link EngineLoad}. */
class RequestLoad {
  readonly #engine: EngineLoad;
  #prompt: number;
  #outputs: number;
  #open: number;

  constructor(
    engine: EngineLoad,
    { prompt, outputs, open }: { prompt: number; outputs: number; open: number },
  ) {
    this.#engine = engine;
    this.#prompt = prompt;
    this.#outputs = outputs;
    this.#open = open;
  }

  /** Takes off what an event says is done. @returns whether this was the request's last event */
  take({ start, tokens, finish }: SequenceEvent): boolean {
    let done = Math.min(this.#outputs, tokens.length);
    this.#outputs -= done;
    if (finish) this.#open--;
    const isOver = finish !== undefined && this.#open === 0;
    if (start || isOver) {
      done += this.#prompt;
      this.#prompt = 0;
    }
    if (isOver) {
      done += this.#outputs;
      this.#outputs = 0;
    }
    this.#engine.tokensOutstanding -= done;
    return isOver;
  }
}

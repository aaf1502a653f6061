import type { NereidError } from '../../base/errors.ts';
import type { GenerationDelta, GenerationUsage } from '../../generation/generation.ts';
import type { Answer } from '../../generation/generation-group.ts';
import type { EventAnswer } from '../event-answer.ts';
import { Output, type OutputEvent } from './output.ts';
import { type ResponseSettings, type ResponseState, responseObject, usageOf } from './responses.ts';

/** A response as the API's events, each with its number. */
export class StreamedResponse implements Answer {
  readonly #settings: ResponseSettings;
  readonly #events: EventAnswer;
  readonly #output: Output;
  #sequenceNumber = 0;
  #finish: 'stop' | 'length' = 'stop';

  constructor(settings: ResponseSettings, events: EventAnswer) {
    this.#settings = settings;
    this.#events = events;
    this.#output = new Output(settings.reading, settings.id.slice('resp_'.length));
  }

  start(): void {
    const state: ResponseState = { status: 'in_progress', output: [] };
    for (const type of ['response.created', 'response.in_progress'])
      this.#send(this.#stateEvent(type, state));
  }

  delta(_choice: number, delta: GenerationDelta): void {
    for (const event of this.#output.push(delta.text, delta.tokens.length)) this.#send(event);
    if (delta.finish) this.#finish = delta.finish;
  }

  end(usage: GenerationUsage): void {
    const status = this.#finish === 'length' ? 'incomplete' : 'completed';
    for (const event of this.#output.finish(status)) this.#send(event);
    const { items, reasoningTokens } = this.#output;
    const state: ResponseState = { status, output: items, usage: usageOf(usage, reasoningTokens) };
    const last = this.#stateEvent(`response.${status}`, state);
    this.#settings.onDone(last.response);
    this.#send(last);
    this.#events.end(this.#finish);
  }

  fail(error: NereidError): void {
    this.#events.fail(error, (body) => {
      const { code, message } = (body as { error: { code: string; message: string } }).error;
      const state: ResponseState = {
        status: 'failed',
        output: this.#output.items,
        error: { code, message },
      };
      return [
        this.#numbered({ type: 'error', code, message, param: null }),
        this.#numbered(this.#stateEvent('response.failed', state)),
      ];
    });
  }

  #stateEvent(type: string, state: ResponseState) {
    return { type, response: responseObject(this.#settings, state) };
  }

  #send(event: OutputEvent): void {
    this.#events.send(this.#numbered(event));
  }

  #numbered(event: OutputEvent): OutputEvent {
    return { ...event, sequence_number: this.#sequenceNumber++ };
  }
}

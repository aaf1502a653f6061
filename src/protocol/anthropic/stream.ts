import type { NereidError } from '../../base/errors.ts';
import type { GenerationDelta, GenerationUsage } from '../../generation/generation.ts';
import type { Answer } from '../../generation/generation-group.ts';
import type { RequestStart } from '../../runtime/requests/events.ts';
import type { EventAnswer } from '../event-answer.ts';
import { ContentBlocks } from './blocks.ts';
import { endOf, type MessageSettings, messageObject, notEnded, usageOf } from './responses.ts';

/** A message as the API's events. */
export class StreamedMessage implements Answer {
  readonly #settings: MessageSettings;
  readonly #events: EventAnswer;
  readonly #blocks: ContentBlocks;
  readonly #promptTokens: number;
  #last: GenerationDelta | undefined;

  constructor(settings: MessageSettings, promptTokens: number, events: EventAnswer) {
    this.#settings = settings;
    this.#promptTokens = promptTokens;
    this.#events = events;
    this.#blocks = new ContentBlocks(settings.reading);
  }

  start(_prompt: number, { cachedTokens }: RequestStart): void {
    const usage = usageOf({ promptTokens: this.#promptTokens, cachedTokens, completionTokens: 0 });
    this.#events.send({ type: 'message_start', message: messageObject(this.#settings, [], notEnded, usage) });
  }

  delta(_choice: number, delta: GenerationDelta): void {
    for (const event of this.#blocks.push(delta.text)) this.#events.send(event);
    this.#last = delta;
  }

  end(usage: GenerationUsage): void {
    for (const event of this.#blocks.finish()) this.#events.send(event);
    const delta = this.#last ? endOf(this.#last, this.#blocks.hasCalls) : notEnded;
    this.#events.send({ type: 'message_delta', delta, usage: usageOf(usage) });
    this.#events.send({ type: 'message_stop' });
    this.#events.end(this.#last?.finish ?? '');
  }

  fail(error: NereidError): void {
    this.#events.fail(error, (body) => [body as { type: string }]);
  }
}

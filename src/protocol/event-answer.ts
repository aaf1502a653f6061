import type { ServerResponse } from 'node:http';
import type { NereidError } from '../base/errors.ts';
import type { StreamOver } from './answering.ts';
import type { EventStream } from './event-stream.ts';
import type { ErrorWording } from './http-server.ts';
import { loggedError } from './request-log.ts';

/**
 * One answer as named server-sent events (`event:` and `data:`). The head goes out with the first of them, so that what fails before has
 * a status of its own.
 */
export class EventAnswer {
  readonly #stream: EventStream;
  readonly #response: ServerResponse;
  readonly #errorResponse: ErrorWording;
  readonly #onOver: StreamOver;
  #isOpen = false;

  constructor(
    stream: EventStream,
    response: ServerResponse,
    errorResponse: ErrorWording,
    onOver: StreamOver,
  ) {
    this.#stream = stream;
    this.#response = response;
    this.#errorResponse = errorResponse;
    this.#onOver = onOver;
  }

  /** Sends an event; its name is the data's `type`. */
  send(data: { type: string; [field: string]: unknown }): void {
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.#stream.open();
    }
    this.#stream.write(`event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  /** Nothing follows. */
  end(finishReason: string): void {
    this.#stream.end();
    this.#onOver(finishReason);
  }

  /**
   * Nothing follows: an ordinary error response where nothing was sent yet, else the protocol's last events.
   * @param last makes those, given the body that the error response would have had
   */
  fail(error: NereidError, last: (body: unknown) => { type: string }[]): void {
    const { status, headers, body } = this.#errorResponse(error);
    if (this.#isOpen) {
      for (const event of last(body)) this.send(event);
      this.#stream.end();
    } else {
      this.#stream.abandon();
      this.#response.writeHead(status, { ...headers, 'content-type': 'application/json; charset=utf-8' });
      this.#response.end(JSON.stringify(body));
    }
    this.#onOver('error', loggedError(error, body));
  }
}

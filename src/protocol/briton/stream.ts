import type { ServerWritableStream } from '@grpc/grpc-js';
import type { NereidError } from '../../base/errors.ts';
import type { GenerationDelta, GenerationListener } from '../../generation/generation.ts';
import { phases } from '../../trace/phases.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import { ProtocolError } from '../errors.ts';
import { EagerMessage } from '../grpc-eager-writes.ts';
import { statusOf } from './errors.ts';
import { unreadPartsMax } from './limits.ts';
import { encodeAnswerPart, finishReasons, type InferenceRequest } from './messages.ts';

/** One call of `Infer`. */
export type InferCall = ServerWritableStream<InferenceRequest, EagerMessage>;

/** Answers with something to send; they are sent once a turn of the event loop, however many steps of the engine it brought. */
let waiting: AnswerStream[] = [];

function sendWaiting(): void {
  const streams = waiting;
  waiting = [];
  for (const stream of streams) stream.flush();
}

/** Writes one generation as parts of an answer. A reader that falls too far behind is cut off. */
export class AnswerStream implements GenerationListener {
  /** The engine's id of the request, for the tracer. */
  requestId = -1;
  readonly #call: InferCall;
  readonly #id: number | bigint;
  readonly #onTooSlow: () => void;
  #unreadParts = 0;
  #text = '';
  #tokens: readonly number[] = [];
  #finish = 0;
  #queued = false;
  #over = false;

  /** @param onTooSlow the reader was cut off: nothing more need be made for it */
  constructor(call: InferCall, onTooSlow: () => void) {
    this.#call = call;
    this.#id = call.request.request_id;
    this.#onTooSlow = onTooSlow;
  }

  delta({ text, tokens, finish, stopReason }: GenerationDelta): void {
    this.#text += text;
    this.#tokens = this.#tokens.length === 0 ? tokens : [...this.#tokens, ...tokens];
    if (finish === 'length') this.#finish = finishReasons.length;
    else if (finish)
      this.#finish = typeof stopReason === 'string' ? finishReasons.stop_words : finishReasons.end_id;
    if (this.#queued) return;
    this.#queued = true;
    if (waiting.push(this) === 1) setImmediate(sendWaiting);
  }

  end(): void {
    this.flush();
    if (!this.#over) this.#call.end();
    this.#over = true;
  }

  fail(error: NereidError): void {
    if (this.#over) return;
    this.#over = true;
    this.#call.emit('error', statusOf(error));
  }

  /** The client left: nothing more is sent. */
  abandon(): void {
    this.#over = true;
  }

  /** Sends what there is. */
  flush(): void {
    this.#queued = false;
    if (this.#over || (this.#tokens.length === 0 && this.#text === '' && this.#finish === 0)) return;
    threadTracer.begin(phases.sendResponse, this.requestId);
    const part = encodeAnswerPart({
      request_id: this.#id,
      output_text: this.#text,
      output_ids: this.#tokens,
      finish_reason: this.#finish,
    });
    this.#unreadParts++;
    this.#call.write(
      new EagerMessage(part, () => {
        this.#unreadParts--;
      }),
    );
    threadTracer.end(phases.sendResponse, this.requestId);
    this.#text = '';
    this.#tokens = [];
    if (this.#unreadParts <= unreadPartsMax) return;
    this.fail(new ProtocolError('READER_TOO_SLOW', `over ${unreadPartsMax} parts of the answer lie unread`));
    this.#onTooSlow();
  }
}

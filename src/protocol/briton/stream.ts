import type { ServerWritableStream } from '@grpc/grpc-js';
import type { NereidError } from '../../base/errors.ts';
import type { GenerationDelta, GenerationListener } from '../../generation/generation.ts';
import { phases } from '../../trace/phases.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import type { ByteBudget, ByteHolder } from '../byte-budget.ts';
import { ProtocolError } from '../errors.ts';
import { movedBytesOf, resetCall } from '../grpc-calls.ts';
import { statusOf } from './errors.ts';
import { unreadPartsMax } from './limits.ts';
import { encodeAnswerPart, finishReasons, type InferenceRequest } from './messages.ts';

/** One call of `Infer`. */
export type InferCall = ServerWritableStream<InferenceRequest, Buffer>;

/** What a part takes of memory beside its bytes while it waits. */
const partOverheadBytes = 200;

/** Answers with something to send; they are sent once a turn of the event loop, however many steps of the engine it brought. */
let waiting: AnswerStream[] = [];

function sendWaiting(): void {
  const streams = waiting;
  waiting = [];
  for (const stream of streams) stream.flush();
}

/** Writes one generation as parts of an answer. A reader that falls too far behind is cut off. */
export class AnswerStream implements GenerationListener, ByteHolder {
  /** The engine's id of the request, for the tracer. */
  requestId = -1;
  readonly #call: InferCall;
  readonly #id: number | bigint;
  readonly #onTooSlow: () => void;
  readonly #answers: ByteBudget;
  #unreadBytes = 0;
  #text = '';
  #tokens: readonly number[] = [];
  #finish = 0;
  #queued = false;
  #over = false;

  /**
   * @param answers bounds what it may leave unread together with all others
   * @param onTooSlow the reader was cut off: nothing more need be made for it
   */
  constructor(call: InferCall, answers: ByteBudget, onTooSlow: () => void) {
    this.#call = call;
    this.#answers = answers;
    call.once('close', () => answers.remove(this));
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

  get heldBytes(): number {
    return this.#unreadBytes;
  }

  get movedBytes(): number {
    return movedBytesOf(this.#call);
  }

  cut(): void {
    resetCall(this.#call);
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
    this.#unreadBytes += part.length + partOverheadBytes;
    this.#call.write(part, () => {
      this.#unreadBytes -= part.length + partOverheadBytes;
    });
    // One part is always on its way.
    if (this.#call.writableLength > 1) this.#answers.update(this);
    threadTracer.end(phases.sendResponse, this.requestId);
    this.#text = '';
    this.#tokens = [];
    if (this.#call.writableLength <= unreadPartsMax) return;
    this.fail(new ProtocolError('READER_TOO_SLOW', `over ${unreadPartsMax} parts of the answer lie unread`));
    this.#onTooSlow();
  }
}

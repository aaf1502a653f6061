import { type Clock, systemClock } from '../base/clock.ts';
import { ByteBudget } from './byte-budget.ts';
import * as limits from './limits.ts';
import { SocketPlaces } from './socket-places.ts';
import { Uploads } from './uploads.ts';

/** Limits of {@link ClientBounds}; each has a default of the same name in `limits.ts`. */
export interface ClientLimits {
  socketsMax?: number;
  socketsPerAddressMax?: number;
  unreadAnswerBytesMax?: number;
  answerStallTimeoutMs?: number;
  uploadBytesMax?: number;
  uploadStallTimeoutMs?: number;
}

/** What clients may take of a process together, whatever protocol they speak. All of its ports share one. */
export interface ClientBounds {
  /** Answers that are not read. */
  readonly answers: ByteBudget;
  /** Requests that are arriving. */
  readonly uploads: Uploads;
  readonly places: SocketPlaces;
}

/** Bounds that nobody holds anything of yet. */
export function clientBounds(asked: ClientLimits = {}, clock: Clock = systemClock): ClientBounds {
  return {
    answers: new ByteBudget({
      bytesMax: asked.unreadAnswerBytesMax ?? limits.unreadAnswerBytesMax,
      stallTimeoutMs: asked.answerStallTimeoutMs ?? limits.answerStallTimeoutMs,
      clock,
    }),
    uploads: new Uploads({
      bytesMax: asked.uploadBytesMax ?? limits.uploadBytesMax,
      stallTimeoutMs: asked.uploadStallTimeoutMs ?? limits.uploadStallTimeoutMs,
    }),
    places: new SocketPlaces({
      socketsMax: asked.socketsMax ?? limits.socketsMax,
      socketsPerAddressMax: asked.socketsPerAddressMax ?? limits.socketsPerAddressMax,
    }),
  };
}

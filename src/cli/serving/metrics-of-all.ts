import type { Exposition } from '../../protocol/metrics.ts';
import type { ControlMessage, FrontEndMessage } from './front-end-messages.ts';
import { type FrontEndSlot, metricsTimeoutMs } from './front-end-slot.ts';

/**
 * What one of several front ends answers at `/metrics`: a scraper reaches now one, now another of them, and counters of one alone would jump
 * back and forth. One question to the primary at a time, whoever asks meanwhile gets the same answer.
 */
export class MetricsOfAll {
  readonly #send: (message: FrontEndMessage) => void;
  #asked: Promise<Exposition | undefined> | undefined;
  #hear: ((exposition: Exposition | undefined) => void) | undefined;

  constructor(send: (message: FrontEndMessage) => void) {
    this.#send = send;
  }

  /** All front ends' metrics added up; undefined when the primary does not answer in time. */
  ask(): Promise<Exposition | undefined> {
    this.#asked ??= new Promise<Exposition | undefined>((resolve) => {
      // The primary itself waits that long for a front end that stands still.
      const timer = setTimeout(() => resolve(undefined), metricsTimeoutMs + 1_000);
      this.#hear = (exposition) => {
        clearTimeout(timer);
        resolve(exposition);
      };
      this.#send({ kind: 'metrics-of-all' });
    }).finally(() => {
      this.#asked = undefined;
    });
    return this.#asked;
  }

  /** The primary's answer. */
  hear({ exposition }: Extract<ControlMessage, { kind: 'metrics-of-all' }>): void {
    this.#hear?.(exposition);
  }
}

/** The primary's side: answers a front end that asks. */
export async function answerMetricsOfAll(
  message: FrontEndMessage,
  from: Pick<FrontEndSlot, 'send'>,
  gather: () => Promise<Exposition>,
): Promise<void> {
  if (message.kind === 'metrics-of-all') from.send({ kind: 'metrics-of-all', exposition: await gather() });
}

import { RuntimeError } from '../errors.ts';
import { readRows } from '../outputs/file-segment.ts';
import type { OutputName, Outputs } from '../outputs/output-rows.ts';
import type { SequenceEvent } from '../requests/events.ts';

/** What becomes of events that had to wait. */
export interface HeldEventsOptions {
  deliver(event: SequenceEvent): void;
  failed(requestId: number, error: RuntimeError): void;
}

/**
 * Events whose rows are read from files before anybody hears of them. Later events of the same request wait behind them, in order; other requests'
 * go on.
 */
export class HeldEvents {
  readonly #options: HeldEventsOptions;
  /** By request: settles when its newest event was delivered. */
  readonly #last = new Map<number, Promise<void>>();

  constructor(options: HeldEventsOptions) {
    this.#options = options;
  }

  /** Takes an event that must wait. @returns false for one that need not: it is the caller's to deliver */
  hold(event: SequenceEvent): boolean {
    const { requestId } = event;
    const before = this.#last.get(requestId);
    if (!before && !event.outputs) return false;
    const delivered = this.#deliver(event, before).finally(() => {
      if (this.#last.get(requestId) === delivered) this.#last.delete(requestId);
    });
    this.#last.set(requestId, delivered);
    return true;
  }

  async #deliver(event: SequenceEvent, before: Promise<void> | undefined): Promise<void> {
    await before;
    try {
      if (event.outputs) event.outputs = await readOutputs(event.outputs);
    } catch (thrown) {
      if (!(thrown instanceof RuntimeError)) throw thrown;
      this.#options.failed(event.requestId, thrown);
      return;
    }
    this.#options.deliver(event);
  }
}

async function readOutputs(outputs: Outputs): Promise<Outputs> {
  const read: Outputs = {};
  for (const [name, rows] of Object.entries(outputs)) {
    read[name as OutputName] = 'path' in rows ? await readRows(rows) : rows;
  }
  return read;
}

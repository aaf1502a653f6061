import type { Clock } from '../../base/clock.ts';
import type { InputItem } from './requests.ts';

/** Responses kept for `previous_response_id`, how long, and what they may take together. */
export const storedResponsesMax = 1_024;
export const storedResponseTtlMs = 60 * 60_000;
export const storedBytesMax = 64 * 1024 * 1024;

/** A response and the conversation that led to it. */
export interface StoredResponse {
  response: { id: string; [field: string]: unknown };
  /** The request's own items. */
  input: readonly InputItem[];
  /** All items before the response's output: those of earlier responses too. Instructions are not carried over. */
  conversation: readonly InputItem[];
  /** Whose it is: only the same key finds it again. */
  owner: string;
}

/** Where responses are kept: in this process, or by another one for several front ends. */
export interface ResponseStorage {
  /** Keeps a response as long as there is room and time; one that asks for it after this finds it. */
  put(stored: StoredResponse): void;
  /** Undefined where there is none of that id, it is too old, or somebody else's. */
  get(id: string, owner: string): StoredResponse | undefined | Promise<StoredResponse | undefined>;
  /** @returns whether there was one */
  delete(id: string, owner: string): boolean | Promise<boolean>;
}

interface Entry {
  stored: StoredResponse;
  bytes: number;
  expiresNs: number;
}

/** The last responses of one process, oldest forgotten first. */
export class ResponseStore implements ResponseStorage {
  readonly #clock: Clock;
  /** In order of age. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Keeps a response; one over {@link storedBytesMax} by itself is not kept. */
  put(stored: StoredResponse): void {
    // A UTF-16 unit each takes two bytes at most; objects around them about as much again.
    const bytes = 2 * (JSON.stringify(stored.response).length + JSON.stringify(stored.conversation).length);
    if (bytes > storedBytesMax) return;
    const expiresNs = this.#clock.nowNs() + storedResponseTtlMs * 1e6;
    this.#entries.set(stored.response.id, { stored, bytes, expiresNs });
    this.#bytes += bytes;
    this.#forgetOld();
  }

  get(id: string, owner: string): StoredResponse | undefined {
    this.#forgetOld();
    const stored = this.#entries.get(id)?.stored;
    return stored?.owner === owner ? stored : undefined;
  }

  delete(id: string, owner: string): boolean {
    if (!this.get(id, owner)) return false;
    this.#remove(id);
    return true;
  }

  #forgetOld(): void {
    const nowNs = this.#clock.nowNs();
    for (const [id, { expiresNs }] of this.#entries) {
      const isOver = this.#entries.size > storedResponsesMax || this.#bytes > storedBytesMax;
      if (!isOver && expiresNs > nowNs) return;
      this.#remove(id);
    }
  }

  #remove(id: string): void {
    this.#bytes -= this.#entries.get(id)?.bytes ?? 0;
    this.#entries.delete(id);
  }
}

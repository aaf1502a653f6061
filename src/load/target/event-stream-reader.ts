import { StringDecoder } from 'node:string_decoder';
import { answerBytesMax } from '../limits.ts';

/** Reads server-sent events from bytes as they come; only the `data` field matters to the protocols we measure. */
export class EventStreamReader {
  readonly #decoder = new StringDecoder('utf8');
  readonly #onData: (data: string) => void;
  #rest = '';
  #data: string | undefined;

  /** @param onData gets each event's data, several lines joined by line feeds */
  constructor(onData: (data: string) => void) {
    this.#onData = onData;
  }

  /** @returns false when a line is longer than any answer may be */
  push(bytes: Buffer): boolean {
    const text = this.#rest + this.#decoder.write(bytes);
    let from = 0;
    for (let end = text.indexOf('\n', from); end >= 0; end = text.indexOf('\n', from)) {
      this.#line(text.slice(from, text.charCodeAt(end - 1) === 0x0d ? end - 1 : end));
      from = end + 1;
    }
    this.#rest = text.slice(from);
    return this.#rest.length <= answerBytesMax;
  }

  #line(line: string): void {
    if (line === '') {
      if (this.#data !== undefined) this.#onData(this.#data);
      this.#data = undefined;
    } else if (line.startsWith('data:')) {
      const value = line.slice(line.charCodeAt(5) === 0x20 ? 6 : 5);
      this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`;
    }
  }
}

/** Bytes of a response's status line and headers together. */
export const responseHeadBytesMax = 64 * 1024;

/** A response's status line and headers. */
export interface ResponseHead {
  status: number;
  /** Lower-case names; of a repeated header the last value. */
  headers: ReadonlyMap<string, string>;
  /** Whether the connection may carry another request after this answer. */
  isReusable: boolean;
}

/** Hears of one response's parts as they come. */
export interface ResponseListener {
  head(head: ResponseHead): void;
  body(bytes: Buffer): void;
  /** Once, when the response is whole. */
  end(): void;
}

/** Where in a response the parser is. */
type State =
  | 'head'
  | 'fixed'
  | 'chunk-size'
  | 'chunk-data'
  | 'chunk-end'
  | 'trailers'
  | 'until-close'
  | 'done';

/**
 * Reads one HTTP/1.1 response (RFC 9112) from bytes as they come. The load generator reads its own sockets, since a general client costs
 * several times as much a request and stamps an answer only after parsing it: what is measured would be the client.
 */
export class HttpResponseParser {
  readonly #listener: ResponseListener;
  #state: State = 'head';
  /** A line (or the whole head) that is not complete yet. */
  #text = '';
  /** Bytes to come of the body, or of its chunk. */
  #left = 0;

  constructor(listener: ResponseListener) {
    this.#listener = listener;
  }

  /** Whether the response is whole. */
  get isDone(): boolean {
    return this.#state === 'done';
  }

  /** Reads on. @returns what is wrong with the bytes, if something is: the connection is of no use then */
  push(bytes: Buffer): string | undefined {
    let at = 0;
    while (at < bytes.length && this.#state !== 'done') {
      if (this.#state === 'until-close') {
        this.#listener.body(bytes.subarray(at));
        return undefined;
      }
      if (this.#state === 'fixed' || this.#state === 'chunk-data') at = this.#takeBody(bytes, at);
      else {
        const end = bytes.indexOf(0x0a, at);
        this.#text += bytes.toString('latin1', at, end < 0 ? bytes.length : end);
        if (this.#text.length > responseHeadBytesMax) return 'its headers are too long';
        if (end < 0) return undefined;
        at = end + 1;
        const problem = this.#takeLine();
        if (problem !== undefined) return problem;
      }
    }
    return at < bytes.length ? 'more bytes came than the answer has' : undefined;
  }

  /** The connection closed. @returns whether the response is whole with that */
  close(): boolean {
    if (this.#state === 'until-close') this.#finish();
    return this.#state === 'done';
  }

  #takeBody(bytes: Buffer, at: number): number {
    const end = Math.min(bytes.length, at + this.#left);
    this.#listener.body(bytes.subarray(at, end));
    this.#left -= end - at;
    if (this.#left === 0) {
      if (this.#state === 'fixed') this.#finish();
      else this.#state = 'chunk-end';
    }
    return end;
  }

  /** A line has ended; those of the head are gathered up to the empty one. */
  #takeLine(): string | undefined {
    const text = this.#text.endsWith('\r') ? this.#text.slice(0, -1) : this.#text;
    if (this.#state === 'head') {
      if (text.endsWith('\n')) return this.#takeHead(text);
      this.#text = text === '' ? '' : `${text}\n`;
      return undefined;
    }
    this.#text = '';
    if (this.#state === 'chunk-size') return this.#takeChunkSize(text);
    if (this.#state === 'chunk-end') {
      if (text !== '') return 'a chunk is longer than it said';
      this.#state = 'chunk-size';
    } else if (text === '') this.#finish();
    return undefined;
  }

  #takeChunkSize(text: string): string | undefined {
    const size = /^([0-9a-f]{1,12})[ \t]*(;.*)?$/i.exec(text)?.[1];
    if (size === undefined) return `'${text.slice(0, 40)}' is no chunk size`;
    this.#left = Number.parseInt(size, 16);
    this.#state = this.#left === 0 ? 'trailers' : 'chunk-data';
    return undefined;
  }

  #takeHead(text: string): string | undefined {
    this.#text = '';
    const [statusLine = '', ...lines] = text.trimEnd().split('\n');
    const found = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(statusLine);
    if (!found) return `'${statusLine.slice(0, 60)}' is no HTTP/1.1 status line`;
    const status = Number(found[2]);
    // 100 Continue and the like come before the answer.
    if (status < 200) return status === 101 ? 'it wants another protocol' : undefined;
    const headers = new Map<string, string>();
    for (const line of lines) {
      const colon = line.indexOf(':');
      if (colon > 0) headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
    }
    const connection = headers.get('connection')?.toLowerCase() ?? '';
    const isKept = found[1] === '1' ? !connection.includes('close') : connection.includes('keep-alive');
    return this.#takeFraming({ status, headers, isReusable: isKept });
  }

  /** How the body's end is known. */
  #takeFraming(head: ResponseHead): string | undefined {
    const { status, headers } = head;
    const length = headers.get('content-length');
    const isChunked = headers.get('transfer-encoding')?.toLowerCase().endsWith('chunked') ?? false;
    if (isChunked) this.#state = 'chunk-size';
    else if (status === 204 || status === 304) this.#left = 0;
    else if (length !== undefined) {
      if (!/^\d{1,15}$/.test(length)) return `'${length.slice(0, 40)}' is no content-length`;
      this.#left = Number(length);
      this.#state = 'fixed';
    } else this.#state = 'until-close';
    this.#listener.head(this.#state === 'until-close' ? { ...head, isReusable: false } : head);
    if (this.#left === 0 && (this.#state === 'fixed' || this.#state === 'head')) this.#finish();
    return undefined;
  }

  #finish(): void {
    this.#state = 'done';
    this.#listener.end();
  }
}

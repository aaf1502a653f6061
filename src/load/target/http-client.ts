import { monotonicMs } from '../../base/monotonic.ts';
import { LoadError } from '../errors.ts';
import { answerBytesMax, errorBytesMax } from '../limits.ts';
import { DeferredReads } from './deferred-reads.ts';
import { EventStreamReader } from './event-stream-reader.ts';
import { type ConnectionListener, type HttpAddress, HttpConnection } from './http-connection.ts';
import type { ResponseHead } from './http-response-parser.ts';

/** Hears of one HTTP answer; nothing after `end` or `fail`. */
export interface HttpAnswer {
  /** The data of a server-sent event, or the whole body of an answer that does not stream. */
  data(atMs: number, data: string): void;
  end(atMs: number): void;
  fail(atMs: number, reason: string): void;
}

/** Posts JSON over kept connections, one a request in flight, and reads event streams as they come. */
export class HttpClient {
  readonly #address: HttpAddress;
  readonly #basePath: string;
  readonly #headers: string;
  readonly #timeoutMs: number;
  readonly #reads = new DeferredReads();
  /** The one that was used last is used next: the others may fall idle. */
  readonly #free: HttpConnection[] = [];
  readonly #onFree = (connection: HttpConnection): void => void this.#free.push(connection);

  /** @throws LoadError LOAD_OPTION_INVALID for a URL or header that is none */
  constructor(url: string, headers: Readonly<Record<string, string>>, timeoutMs: number) {
    const base = httpUrl(url);
    const isSecure = base.protocol === 'https:';
    const host = base.hostname.replace(/^\[|\]$/g, '');
    this.#address = { host, port: Number(base.port) || (isSecure ? 443 : 80), isSecure };
    this.#basePath = base.pathname.replace(/\/$/, '');
    this.#timeoutMs = timeoutMs;
    const all = { host: base.host, 'content-type': 'application/json', ...headers };
    this.#headers = Object.entries(all)
      .map(([name, value]) => headerLine(name, value))
      .join('');
  }

  /** Sends the body now; the returned function drops the connection, after which `answer` hears no more. */
  post(path: string, body: string, answer: HttpAnswer): () => void {
    const length = Buffer.byteLength(body);
    const request = `POST ${this.#basePath}${path} HTTP/1.1\r\n${this.#headers}content-length: ${length}\r\n\r\n${body}`;
    const exchange = new Exchange(answer, (isNew) => this.#connection(isNew), request, this.#timeoutMs);
    return () => exchange.cancel();
  }

  close(): void {
    for (const connection of this.#free.splice(0)) connection.destroy();
  }

  #connection(isNew: boolean): HttpConnection {
    for (let kept = isNew ? undefined : this.#free.pop(); kept; kept = this.#free.pop()) {
      if (kept.isUsable) return kept;
      kept.destroy();
    }
    return new HttpConnection(this.#address, this.#reads, this.#onFree);
  }
}

/** One request's way; makes sure that its answer ends exactly once. */
class Exchange implements ConnectionListener {
  readonly #answer: HttpAnswer;
  readonly #request: string;
  readonly #connect: (isNew: boolean) => HttpConnection;
  readonly #timer: NodeJS.Timeout | undefined;
  #connection: HttpConnection;
  /** Reads the body; set by the head. */
  #take: (bytes: Buffer) => void = () => {};
  #finishBody: (atMs: number) => void = () => {};
  #atMs = 0;
  #over = false;

  constructor(
    answer: HttpAnswer,
    connect: (isNew: boolean) => HttpConnection,
    request: string,
    timeoutMs: number,
  ) {
    this.#answer = answer;
    this.#request = request;
    this.#connect = connect;
    if (timeoutMs > 0)
      this.#timer = setTimeout(() => this.#fail(monotonicMs(), `no end within ${timeoutMs} ms`), timeoutMs);
    this.#connection = connect(false);
    this.#connection.send(request, this);
  }

  cancel(): void {
    if (this.#finish()) this.#connection.destroy();
  }

  head({ status, headers }: ResponseHead): void {
    const isStream = headers.get('content-type')?.startsWith('text/event-stream') ?? false;
    if (status === 200 && isStream) this.#readEvents();
    else this.#readWhole(status);
  }

  body(atMs: number, bytes: Buffer): void {
    if (this.#over) return;
    this.#atMs = atMs;
    this.#take(bytes);
  }

  end(atMs: number): void {
    if (!this.#over) this.#finishBody(atMs);
  }

  /**
   * A kept connection that the server closed for being idle just when this was sent has not seen the request: it goes out once more on a
   * new one, as other clients do. The clock runs on.
   */
  fail(atMs: number, reason: string, isUnanswered: boolean): void {
    if (this.#over) return;
    if (!isUnanswered || this.#connection.requests === 1) {
      this.#fail(atMs, reason);
      return;
    }
    this.#connection = this.#connect(true);
    this.#connection.send(this.#request, this);
  }

  #readEvents(): void {
    const reader = new EventStreamReader((data) => {
      if (!this.#over) this.#answer.data(this.#atMs, data);
    });
    this.#take = (bytes) => {
      if (!reader.push(bytes)) this.#fail(this.#atMs, `an event is longer than ${answerBytesMax} bytes`);
    };
    this.#finishBody = (atMs) => {
      if (this.#finish()) this.#answer.end(atMs);
    };
  }

  #readWhole(status: number): void {
    const isGood = status === 200;
    const lengthMax = isGood ? answerBytesMax : errorBytesMax;
    const parts: Buffer[] = [];
    let length = 0;
    this.#take = (bytes) => {
      length += bytes.length;
      if (length <= lengthMax || parts.length === 0) parts.push(bytes);
      else if (isGood) this.#fail(this.#atMs, `the answer is longer than ${answerBytesMax} bytes`);
    };
    this.#finishBody = (atMs) => {
      const body = Buffer.concat(parts).toString('utf8');
      if (!isGood) this.#fail(atMs, `HTTP ${status}: ${body.slice(0, errorBytesMax)}`);
      else if (this.#finish()) {
        this.#answer.data(atMs, body);
        this.#answer.end(atMs);
      }
    };
  }

  #fail(atMs: number, reason: string): void {
    if (!this.#finish()) return;
    this.#connection.destroy();
    this.#answer.fail(atMs, reason);
  }

  /** @returns whether it was not over yet */
  #finish(): boolean {
    if (this.#over) return false;
    this.#over = true;
    clearTimeout(this.#timer);
    return true;
  }
}

function headerLine(name: string, value: string): string {
  if (/^[!#$%&'*+.^_`|~\w-]+$/.test(name) && !/[^\t\x20-\x7e\x80-\xff]/.test(value))
    return `${name}: ${value}\r\n`;
  throw new LoadError(
    'LOAD_OPTION_INVALID',
    `'${name}: ${value}' is no HTTP header; give name:value in ASCII`,
  );
}

function httpUrl(text: string): URL {
  const whole = text.includes('://') ? text : `http://${text}`;
  if (URL.canParse(whole) && /^https?:$/.test(new URL(whole).protocol)) return new URL(whole);
  throw new LoadError('LOAD_OPTION_INVALID', `'${text}' is no http URL; give http://host:port`);
}

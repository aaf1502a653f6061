import {
  type ClientRequest,
  Agent as HttpAgent,
  type IncomingMessage,
  request as requestHttp,
} from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { monotonicMs } from '../../base/monotonic.ts';
import { LoadError } from '../errors.ts';
import { answerBytesMax, errorBytesMax } from '../limits.ts';
import { EventStreamReader } from './event-stream-reader.ts';

/** Hears of one HTTP answer; nothing after `end` or `fail`. */
export interface HttpAnswer {
  /** The data of a server-sent event, or the whole body of an answer that does not stream. */
  data(atMs: number, data: string): void;
  end(atMs: number): void;
  fail(atMs: number, reason: string): void;
}

/** Posts JSON over kept connections, one a request in flight, and reads event streams as they come. */
export class HttpClient {
  readonly #agent: HttpAgent;
  readonly #base: URL;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #timeoutMs: number;

  /** @throws LoadError LOAD_OPTION_INVALID for a URL that is none */
  constructor(url: string, headers: Readonly<Record<string, string>>, timeoutMs: number) {
    this.#base = httpUrl(url);
    this.#headers = headers;
    this.#timeoutMs = timeoutMs;
    const options = { keepAlive: true, noDelay: true, maxSockets: Number.POSITIVE_INFINITY };
    this.#agent = this.#base.protocol === 'https:' ? new HttpsAgent(options) : new HttpAgent(options);
  }

  /** Sends the body now; the returned function drops the connection, after which `answer` hears no more. */
  post(path: string, body: string, answer: HttpAnswer): () => void {
    const isSecure = this.#base.protocol === 'https:';
    const exchange = new Exchange(answer);
    const request = (isSecure ? requestHttps : requestHttp)(
      {
        agent: this.#agent,
        host: this.#base.hostname.replace(/^\[|\]$/g, ''),
        port: this.#base.port || (isSecure ? 443 : 80),
        path: `${this.#base.pathname.replace(/\/$/, '')}${path}`,
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          ...this.#headers,
        },
      },
      (response) => exchange.read(response),
    );
    exchange.start(request, this.#timeoutMs);
    request.end(body);
    return () => exchange.cancel();
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** One request's way; makes sure that its answer ends exactly once. */
class Exchange {
  readonly #answer: HttpAnswer;
  #request: ClientRequest | undefined;
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  constructor(answer: HttpAnswer) {
    this.#answer = answer;
  }

  start(request: ClientRequest, timeoutMs: number): void {
    this.#request = request;
    request.on('error', (error) => this.#fail(error.message));
    if (timeoutMs > 0) this.#timer = setTimeout(() => this.#fail(`no end within ${timeoutMs} ms`), timeoutMs);
  }

  cancel(): void {
    this.#finish();
    this.#request?.destroy();
  }

  read(response: IncomingMessage): void {
    response.on('aborted', () => this.#fail('the connection closed in the middle of the answer'));
    response.on('error', (error) => this.#fail(error.message));
    const isStream = response.headers['content-type']?.startsWith('text/event-stream') ?? false;
    if (response.statusCode === 200 && isStream) this.#readEvents(response);
    else this.#readWhole(response);
  }

  #readEvents(response: IncomingMessage): void {
    let atMs = 0;
    const reader = new EventStreamReader((data) => {
      if (!this.#over) this.#answer.data(atMs, data);
    });
    response.on('data', (bytes: Buffer) => {
      if (this.#over) return;
      atMs = monotonicMs();
      if (!reader.push(bytes)) this.#fail(`an event is longer than ${answerBytesMax} bytes`);
    });
    response.on('end', () => {
      if (this.#finish()) this.#answer.end(monotonicMs());
    });
  }

  #readWhole(response: IncomingMessage): void {
    const isGood = response.statusCode === 200;
    const lengthMax = isGood ? answerBytesMax : errorBytesMax;
    const parts: Buffer[] = [];
    let length = 0;
    response.on('data', (bytes: Buffer) => {
      length += bytes.length;
      if (length <= lengthMax || parts.length === 0) parts.push(bytes);
      else if (isGood) this.#fail(`the answer is longer than ${answerBytesMax} bytes`);
    });
    response.on('end', () => {
      const atMs = monotonicMs();
      const body = Buffer.concat(parts).toString('utf8');
      if (!isGood) this.#fail(`HTTP ${response.statusCode}: ${body.slice(0, errorBytesMax)}`);
      else if (this.#finish()) {
        this.#answer.data(atMs, body);
        this.#answer.end(atMs);
      }
    });
  }

  #fail(reason: string): void {
    if (!this.#finish()) return;
    this.#answer.fail(monotonicMs(), reason);
    this.#request?.destroy();
  }

  /** @returns whether it was not over yet */
  #finish(): boolean {
    if (this.#over) return false;
    this.#over = true;
    clearTimeout(this.#timer);
    return true;
  }
}

function httpUrl(text: string): URL {
  const whole = text.includes('://') ? text : `http://${text}`;
  if (URL.canParse(whole) && /^https?:$/.test(new URL(whole).protocol)) return new URL(whole);
  throw new LoadError('LOAD_OPTION_INVALID', `'${text}' is no http URL; give http://host:port`);
}

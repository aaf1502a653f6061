/** How often the line is drawn over, and how often one is printed where there is no terminal. */
const drawEveryMs = 200;
const printEveryMs = 5000;

/** Where and when; defaults for people, others for tests. */
export interface ProgressLineOptions {
  stream?: NodeJS.WriteStream;
  nowMs?: () => number;
}

/** Requests done so far with their rate, on stderr: one line that is drawn over on a terminal, a line every few seconds elsewhere. */
export class ProgressLine {
  readonly #total: number | undefined;
  readonly #stream: NodeJS.WriteStream;
  readonly #nowMs: () => number;
  #startMs: number;
  #shownMs: number;
  #done = 0;
  #failed = 0;
  #isDrawn = false;

  /** @param total requests to come, where it is known */
  constructor(total: number | undefined, options: ProgressLineOptions = {}) {
    this.#total = total;
    this.#stream = options.stream ?? process.stderr;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#startMs = this.#nowMs();
    this.#shownMs = this.#startMs;
  }

  /** The measurement begins now: what came before was warming up. */
  start(): void {
    this.#startMs = this.#nowMs();
    this.#shownMs = this.#startMs;
  }

  /** One more request ended. */
  add(isFailure: boolean): void {
    this.#done++;
    if (isFailure) this.#failed++;
    const nowMs = this.#nowMs();
    if (nowMs - this.#shownMs < (this.#stream.isTTY ? drawEveryMs : printEveryMs)) return;
    this.#shownMs = nowMs;
    const line = this.#line(nowMs);
    if (!this.#stream.isTTY) this.#stream.write(`${line}\n`);
    else {
      this.#stream.write(`\r\x1b[K${line.slice(0, (this.#stream.columns ?? 80) - 1)}`);
      this.#isDrawn = true;
    }
  }

  /** Takes the line away. */
  finish(): void {
    if (this.#isDrawn) this.#stream.write('\r\x1b[K');
    this.#isDrawn = false;
  }

  #line(nowMs: number): string {
    const seconds = (nowMs - this.#startMs) / 1000;
    const of = this.#total === undefined ? '' : ` of ${this.#total}`;
    const share = this.#total ? `${Math.floor((100 * this.#done) / this.#total)}%, ` : '';
    const failed = this.#failed > 0 ? `, ${this.#failed} failed` : '';
    return `${share}${this.#done}${of} requests, ${(this.#done / seconds).toFixed(1)}/s, ${seconds.toFixed(0)} s${failed}`;
  }
}

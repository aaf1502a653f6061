import { messageOf } from '../../base/errors.ts';
import { startWorker } from '../../base/worker.ts';
import { MaskBoard, maskBoardMemory } from './mask-board.ts';
import type { VocabularySource } from './vocabulary.ts';
import type { GuidanceCommand, GuidancePort, GuidanceReport, GuidanceWorkerData } from './worker-messages.ts';

/** How often a thread with work is looked at. */
const watchIntervalMs = 250;
/** A thread may take so long to load its vocabulary. */
const startTimeoutMs = 60_000;

/** What a thread is given. */
export interface GuidanceThreadOptions {
  vocabulary: VocabularySource;
  vocabularySize: number;
  /** Sequences that it can follow at once. */
  places: number;
  /** One command may take so long; then the thread is ended. */
  operationTimeoutMs: number;
  memoryBytesMax: number;
  /** Starts who follows grammars. */
  start(data: GuidanceWorkerData): GuidancePort;
}

/** A worker thread with xgrammar. */
export function startGuidanceWorker(workerData: GuidanceWorkerData): GuidancePort {
  return startWorker('runtime/guidance/guidance-worker', { workerData });
}

/** Why a thread is no more, and what it was at. */
export interface ThreadEnd {
  isSlow: boolean;
  hadStarted: boolean;
  message: string;
  /** Whose command it was at; −1 for a grammar's. */
  place: number;
}

/** One worker thread, its shared board, and the watch over it. */
export class GuidanceThread {
  readonly board: MaskBoard;
  /** Should take nothing new, and end when nothing of it is in use. */
  isWorn = false;
  readonly #worker: GuidancePort;
  readonly #options: GuidanceThreadOptions;
  readonly #freePlaces: number[];
  readonly #tickets: Int32Array;
  readonly #hear: (report: GuidanceReport) => void;
  readonly #onEnd: (end: ThreadEnd) => void;
  #queued: GuidanceCommand[] = [];
  #sent = 0;
  #messages = 0;
  #seen = 0;
  #seenMs = performance.now();
  #isStarted = false;
  #isOver = false;
  #watch: NodeJS.Timeout | undefined;

  constructor(
    options: GuidanceThreadOptions,
    hear: (report: GuidanceReport) => void,
    onEnd: (end: ThreadEnd) => void,
  ) {
    this.#options = options;
    this.#hear = hear;
    this.#onEnd = onEnd;
    const memory = maskBoardMemory(options.places, options.vocabularySize);
    this.board = new MaskBoard(memory);
    this.#freePlaces = Array.from({ length: options.places }, (_, index) => index).reverse();
    this.#tickets = new Int32Array(options.places);
    const workerData: GuidanceWorkerData = {
      vocabulary: options.vocabulary,
      board: memory,
      memoryBytesMax: options.memoryBytesMax,
    };
    this.#worker = options.start(workerData);
    this.#worker.on('message', (report: GuidanceReport) => this.#receive(report));
    this.#worker.on('error', (error) => this.#end(false, messageOf(error)));
    this.#worker.on('exit', () => this.#end(false, 'it exited'));
  }

  /** A place for one more sequence. */
  takePlace(): number | undefined {
    return this.#freePlaces.pop();
  }

  givePlaceBack(place: number): void {
    this.#freePlaces.push(place);
  }

  /** The number of a place's next question. Places are used again and the numbers go on: no answer to an earlier sequence counts. */
  nextTicket(place: number): number {
    const ticket = ((this.#tickets[place] as number) + 1) | 0;
    this.#tickets[place] = ticket;
    return ticket;
  }

  /** Queues a command for the next {@link flush}. */
  tell(command: GuidanceCommand): void {
    if (!this.#isOver) this.#queued.push(command);
  }

  /** How many messages were sent: a command of this number's time still waits for {@link flush}. */
  get sent(): number {
    return this.#messages;
  }

  /** Sends what is queued: one message. */
  flush(): void {
    if (this.#queued.length === 0 || this.#isOver) return;
    if (this.#sent === this.board.operations) this.#seenMs = performance.now();
    this.#sent += this.#queued.length;
    this.#messages++;
    this.#worker.postMessage(this.#queued);
    this.#queued = [];
    this.#watch ??= setInterval(() => this.#look(), watchIntervalMs);
  }

  /** While it is in use it keeps the process alive. */
  set isInUse(value: boolean) {
    if (value) this.#worker.ref();
    else this.#worker.unref();
  }

  /** Ends it; nothing is heard of it any more. */
  async close(): Promise<void> {
    this.#isOver = true;
    clearInterval(this.#watch);
    await this.#worker.terminate();
  }

  #receive(report: GuidanceReport): void {
    if (this.#isOver) return;
    if (report.kind === 'ready') {
      this.#isStarted = true;
      this.#seenMs = performance.now();
    } else this.#hear(report);
  }

  /** A command that takes too long ends the thread: nothing else stops WebAssembly. */
  #look(): void {
    const { operations } = this.board;
    const nowMs = performance.now();
    if (operations === this.#sent) {
      clearInterval(this.#watch);
      this.#watch = undefined;
    }
    if (operations !== this.#seen || operations === this.#sent) {
      this.#seen = operations;
      this.#seenMs = nowMs;
      return;
    }
    const limitMs = this.#isStarted ? this.#options.operationTimeoutMs : startTimeoutMs;
    if (nowMs - this.#seenMs > limitMs) this.#end(true, `it was stopped after ${limitMs / 1000} s`);
  }

  #end(isSlow: boolean, message: string): void {
    if (this.#isOver) return;
    const place = this.board.placeAtWork;
    void this.close();
    this.#onEnd({ isSlow, hadStarted: this.#isStarted, message, place });
  }
}

import { assert, definite } from '../../base/errors.ts';
import { RuntimeError } from '../errors.ts';
import type { Prerequisite } from '../plan/prerequisites.ts';
import { CompiledGrammar } from './compiled-grammar.ts';
import {
  GuidanceThread,
  type GuidanceThreadOptions,
  startGuidanceWorker,
  type ThreadEnd,
} from './guidance-thread.ts';
import { type Guide, guideKey } from './guide.ts';
import { type GuidePlace, SequenceGuide } from './sequence-guide.ts';
import type { VocabularySource } from './vocabulary.ts';
import type { GuidancePort, GuidanceReport, GuidanceWorkerData } from './worker-messages.ts';

/** Grammars that are kept beside those in use, with their sources' summed length. */
export const keptGrammarsMax = 64;
export const keptGrammarsLengthMax = 8 * 1024 * 1024;
/** One compilation, or one step of one sequence, may take so long; then its request is refused and its thread replaced. */
export const guidanceOperationTimeoutMs = 10_000;
/** Threads: a grammar is compiled where no sequence is followed, if there is such a one. Replaced ones may live a little longer. */
export const guidanceThreadsMax = 2;
/** Over it a thread is replaced as soon as nothing of it is in use: WebAssembly gives no memory back. */
export const guidanceMemoryBytesMax = 1024 * 1024 * 1024;

/** Where {@link Guidance} gets its vocabulary, and its limits. */
export interface GuidanceOptions {
  vocabulary: VocabularySource;
  vocabularySize: number;
  sequencesMax: number;
  /** Answers came that were waited for. */
  onAnswers(): void;
  operationTimeoutMs?: number;
  threadsMax?: number;
  keptGrammarsMax?: number;
  memoryBytesMax?: number;
  /** Starts who follows grammars. Default: a worker thread with xgrammar. */
  start?(data: GuidanceWorkerData): GuidancePort;
}

/** A request's hold on a grammar. */
export interface GrammarLease extends Prerequisite {
  /** Follows one of its sequences, from the tokens that it has. */
  open(outputTokens: () => Int32Array): SequenceGuide;
}

/**
 * Guided decoding beside one engine: grammars compiled once in worker threads, and a matcher a sequence that says in shared memory which tokens
 * may come next. Costs nothing before the first guided request.
 */
export class Guidance {
  readonly #options: Required<GuidanceOptions>;
  readonly #grammars = new Map<string, CompiledGrammar>();
  readonly #guides = new Set<SequenceGuide>();
  readonly #threads = new Set<GuidanceThread>();
  #grammarIds = 0;

  constructor(options: GuidanceOptions) {
    this.#options = {
      operationTimeoutMs: guidanceOperationTimeoutMs,
      threadsMax: guidanceThreadsMax,
      keptGrammarsMax,
      memoryBytesMax: guidanceMemoryBytesMax,
      start: startGuidanceWorker,
      ...options,
    };
  }

  /** A request wants to be guided: compiles its grammar unless that is known. */
  lease(guide: Guide, stopTokenIds: readonly number[]): GrammarLease {
    const grammar = this.#grammarOf(guide);
    grammar.users++;
    this.#updateUse();
    this.flush();
    let isHeld = true;
    return {
      get isReady() {
        return grammar.state === 'ready';
      },
      onReady: (run) => {
        if (grammar.state === 'compiling') grammar.whenSettled(run);
        else run(grammar.problem);
      },
      release: () => {
        if (!isHeld) return;
        isHeld = false;
        grammar.users--;
        this.#tidy();
      },
      open: (outputTokens) => this.#open(grammar, stopTokenIds, outputTokens),
    };
  }

  /** Sends what was asked since the last time: one message a thread. */
  flush(): void {
    for (const thread of this.#threads) thread.flush();
  }

  async close(): Promise<void> {
    const threads = [...this.#threads];
    this.#threads.clear();
    this.#grammars.clear();
    await Promise.all(threads.map((thread) => thread.close()));
  }

  #open(
    grammar: CompiledGrammar,
    stopTokenIds: readonly number[],
    outputTokens: () => Int32Array,
  ): SequenceGuide {
    const thread = definite(grammar.thread, 'a grammar in use has a thread');
    const guide = new SequenceGuide({
      ...{ grammar, stopTokenIds, outputTokens },
      at: placeOn(thread),
      onClose: (closed) => {
        this.#guides.delete(closed);
        this.#tidy();
      },
    });
    this.#guides.add(guide);
    return guide;
  }

  #grammarOf(guide: Guide): CompiledGrammar {
    const key = guideKey(guide);
    const known = this.#grammars.get(key);
    if (known) {
      // Last in the order of use.
      this.#grammars.delete(key);
      this.#grammars.set(key, known);
      return known;
    }
    const grammar = new CompiledGrammar(this.#grammarIds++, key, guide);
    this.#grammars.set(key, grammar);
    this.#compile(grammar);
    return grammar;
  }

  #compile(grammar: CompiledGrammar): void {
    const thread = this.#threadForCompiling();
    grammar.thread = thread;
    grammar.state = 'compiling';
    thread.tell({ kind: 'compile', grammar: grammar.id, guide: grammar.guide });
  }

  /** One that nobody waits for, a new one, or the one with the fewest sequences. */
  #threadForCompiling(): GuidanceThread {
    const threads = [...this.#threads].filter(({ isWorn }) => !isWorn);
    const load = new Map(threads.map((thread) => [thread, this.#loadOf(thread)]));
    threads.sort((left, right) => (load.get(left) ?? 0) - (load.get(right) ?? 0));
    const least = threads[0];
    if (least && (load.get(least) === 0 || threads.length >= this.#options.threadsMax)) return least;
    return this.#startThread();
  }

  #startThread(): GuidanceThread {
    const { vocabulary, vocabularySize, sequencesMax: places } = this.#options;
    const { operationTimeoutMs, memoryBytesMax, start } = this.#options;
    const options: GuidanceThreadOptions = {
      ...{ vocabulary, vocabularySize, places, operationTimeoutMs, memoryBytesMax, start },
    };
    const thread: GuidanceThread = new GuidanceThread(
      options,
      (report) => this.#hear(thread, report),
      (end) => this.#onThreadEnd(thread, end),
    );
    this.#threads.add(thread);
    return thread;
  }

  #loadOf(thread: GuidanceThread): number {
    let load = 0;
    for (const guide of this.#guides) if (guide.at.thread === thread) load++;
    for (const grammar of this.#grammars.values()) {
      if (grammar.thread === thread && grammar.state === 'compiling') load++;
    }
    return load;
  }

  #hear(thread: GuidanceThread, report: GuidanceReport): void {
    if (report.kind === 'answered') this.#options.onAnswers();
    else if (report.kind === 'worn') {
      thread.isWorn = true;
      this.#tidy();
    } else if (report.kind === 'compiled') {
      const grammar = [...this.#grammars.values()].find(({ id }) => id === report.grammar);
      if (!grammar || grammar.thread !== thread) return;
      grammar.settle(report.problem === undefined ? undefined : invalid(report.problem));
      this.#tidy();
    }
  }

  /** What it was at is to blame and fails; everything else that it held is set up again in another thread. */
  #onThreadEnd(thread: GuidanceThread, end: ThreadEnd): void {
    this.#threads.delete(thread);
    const guides = [...this.#guides].filter(({ at }) => at.thread === thread);
    const grammars = [...this.#grammars.values()].filter((grammar) => grammar.thread === thread);
    const guilty = guides.find(({ at }) => at.place === end.place);
    if (guilty) guilty.failure = endError(end, 'following');
    const accused = guilty ? undefined : grammars.find(({ state }) => state === 'compiling');
    // Nothing may be set up again for ever: with nobody to blame, all that the thread held fails.
    const isHopeless = !end.hadStarted || (!guilty && !accused);
    for (const grammar of grammars) {
      grammar.thread = undefined;
      if (isHopeless || grammar === accused) {
        const failed = end.hadStarted ? endError(end, 'compiling') : unavailable(end.message);
        grammar.settle(failed);
        for (const guide of guides) if (guide.options.grammar === grammar) guide.failure ??= failed;
        if (isHopeless) this.#grammars.delete(grammar.key);
      } else if (grammar.users === 0) this.#grammars.delete(grammar.key);
      else this.#compile(grammar);
    }
    for (const guide of guides) {
      const next = guide.options.grammar.thread;
      if (!guide.failure && next) guide.moveTo(placeOn(next));
      else guide.failure ??= endError(end, 'following');
    }
    this.#updateUse();
    this.flush();
    this.#options.onAnswers();
  }

  /** Drops what is kept for nobody, over the limits or in worn threads. */
  #tidy(): void {
    const idle = [...this.#grammars.values()].filter(({ users }) => users === 0);
    let kept = idle.length;
    let length = idle.reduce((sum, { guide }) => sum + guide.source.length, 0);
    for (const grammar of idle) {
      const isOver = kept > this.#options.keptGrammarsMax || length > keptGrammarsLengthMax;
      const isLost = grammar.thread?.isWorn === true && grammar.state === 'ready';
      if (grammar.state === 'compiling' || (!isOver && !isLost)) continue;
      kept--;
      length -= grammar.guide.source.length;
      this.#grammars.delete(grammar.key);
      if (grammar.state === 'ready') grammar.thread?.tell({ kind: 'drop', grammar: grammar.id });
    }
    for (const thread of this.#threads) {
      if (!thread.isWorn || this.#isUsed(thread)) continue;
      this.#threads.delete(thread);
      void thread.close();
    }
    this.#updateUse();
  }

  #isUsed(thread: GuidanceThread): boolean {
    if (this.#loadOf(thread) > 0) return true;
    for (const grammar of this.#grammars.values()) {
      if (grammar.thread === thread && grammar.users > 0 && grammar.state === 'ready') return true;
    }
    return false;
  }

  #updateUse(): void {
    for (const thread of this.#threads) thread.isInUse = this.#isUsed(thread);
  }
}

function placeOn(thread: GuidanceThread): GuidePlace {
  const place = thread.takePlace();
  assert(place !== undefined, 'a place for each running sequence');
  return { thread, place };
}

function invalid(problem: string): RuntimeError {
  return new RuntimeError('GRAMMAR_INVALID', `the grammar cannot be compiled: ${problem}`);
}

function unavailable(message: string): RuntimeError {
  const fix = 'see whether the model has its tokenizer files';
  return new RuntimeError('GUIDANCE_UNAVAILABLE', `guided decoding could not start: ${message}; ${fix}`);
}

function endError({ isSlow, message }: ThreadEnd, what: 'compiling' | 'following'): RuntimeError {
  if (!isSlow)
    return new RuntimeError('GUIDANCE_UNAVAILABLE', `guided decoding failed: ${message}; try again`);
  const fix = 'make it simpler: fewer alternatives, smaller counts of repetition';
  return new RuntimeError('GRAMMAR_TOO_SLOW', `${what} the grammar takes too long: ${message}; ${fix}`);
}

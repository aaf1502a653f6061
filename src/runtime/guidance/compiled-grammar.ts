import type { RuntimeError } from '../errors.ts';
import type { GuidanceThread } from './guidance-thread.ts';
import type { Guide } from './guide.ts';

/** A grammar that requests use or used: compiled once, in one thread. */
export class CompiledGrammar {
  readonly id: number;
  readonly key: string;
  readonly guide: Guide;
  state: 'compiling' | 'ready' | 'failed' = 'compiling';
  /** Why it failed. Kept, so that the same grammar is refused at once the next time. */
  problem: RuntimeError | undefined;
  thread: GuidanceThread | undefined;
  /** Requests that hold it. */
  users = 0;
  readonly #waiting: ((error?: unknown) => void)[] = [];

  constructor(id: number, key: string, guide: Guide) {
    this.id = id;
    this.key = key;
    this.guide = guide;
  }

  whenSettled(run: (error?: unknown) => void): void {
    this.#waiting.push(run);
  }

  settle(problem?: RuntimeError): void {
    this.state = problem ? 'failed' : 'ready';
    this.problem = problem;
    for (const run of this.#waiting.splice(0)) run(problem);
  }
}

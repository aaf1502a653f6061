import type { Guide } from './guide.ts';

/** Makes grammars into what can be followed: xgrammar in a worker thread, a small one of its own in the simulator. */
export interface GuideCompiler {
  /** @throws Error that says what is wrong with the guide */
  compile(guide: Guide): Promise<CompiledGuide>;
  /** Whether whoever starts anew is better off: an aborted call, or memory that only grows. */
  readonly isWorn: boolean;
}

/** A compiled guide. */
export interface CompiledGuide {
  /** @param stopTokenIds what ends the request's text */
  open(stopTokenIds: readonly number[]): Promise<GuideMatcher>;
  close(): void;
}

/** One sequence's way through a guide. */
export interface GuideMatcher {
  /** Takes the next token. @returns false where it may not come; then nothing has changed */
  accept(token: number): boolean;
  /** Takes the last tokens back. */
  rollBack(count: number): void;
  /** Nothing may follow. */
  readonly isOver: boolean;
  /** The tokens that may come next, as bits; the caller's own. */
  mask(): Promise<Int32Array>;
  close(): void;
}

import type { Guide } from './guide.ts';
import type { MaskBoardMemory } from './mask-board.ts';
import type { VocabularySource } from './vocabulary.ts';

/** What a guidance worker is started with. */
export interface GuidanceWorkerData {
  vocabulary: VocabularySource;
  board: MaskBoardMemory;
  /** Bytes of memory over which it says that it should be replaced. */
  memoryBytesMax: number;
}

/** What a worker is told; one message holds all of a step. */
export type GuidanceCommand =
  | { kind: 'compile'; grammar: number; guide: Guide }
  | { kind: 'drop'; grammar: number }
  /** A sequence begins, or goes on after `tokens`. */
  | {
      kind: 'open';
      place: number;
      ticket: number;
      grammar: number;
      tokens: Int32Array;
      stopTokenIds: readonly number[];
    }
  /** A sequence has said these tokens: what may follow the last of them? */
  | { kind: 'accept'; place: number; ticket: number; tokens: number[] }
  /** It may say these next: what may follow each of them? */
  | { kind: 'foresee'; place: number; ticket: number; tokens: readonly number[] }
  | { kind: 'close'; place: number };

/** What a worker says. */
export type GuidanceReport =
  | { kind: 'ready' }
  /** A grammar is there, or cannot be had. */
  | { kind: 'compiled'; grammar: number; problem?: string; compileMs: number }
  /** Something was answered, and the engine had asked to be told. */
  | { kind: 'answered' }
  /** An aborted call or the memory's size: whoever starts anew is better off. */
  | { kind: 'worn' };

/** The engine's end of a follower: a worker thread, or the simulator's. */
export interface GuidancePort {
  postMessage(commands: readonly GuidanceCommand[]): void;
  on(event: 'message', hear: (report: GuidanceReport) => void): unknown;
  on(event: 'error', hear: (error: unknown) => void): unknown;
  on(event: 'exit', hear: () => void): unknown;
  /** Whether it keeps the process alive. */
  ref(): void;
  unref(): void;
  terminate(): Promise<unknown>;
}

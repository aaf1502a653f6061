import type { SeededRandom } from '../../src/base/random.ts';
import { Guidance, type GuidanceOptions } from '../../src/runtime/guidance/guidance.ts';
import type { Guide } from '../../src/runtime/guidance/guide.ts';
import { guideState } from '../../src/runtime/guidance/mask-board.ts';
import type { SequenceGuide } from '../../src/runtime/guidance/sequence-guide.ts';
import { vocabularyOf } from '../../src/runtime/guidance/vocabulary.ts';
import type { Tokenizer } from '../../src/tokenizer/types.ts';

/** A model's place taken by chance: walks through grammars by what their masks allow. */
export class GrammarWalker {
  readonly guidance: Guidance;
  readonly #tokenizer: Tokenizer;
  readonly #waiting: (() => void)[] = [];

  constructor(tokenizer: Tokenizer, options: Partial<GuidanceOptions> = {}) {
    this.#tokenizer = tokenizer;
    this.guidance = new Guidance({
      vocabulary: vocabularyOf(tokenizer),
      vocabularySize: tokenizer.vocabularySize,
      sequencesMax: 4,
      onAnswers: () => {
        for (const wake of this.#waiting.splice(0)) wake();
      },
      ...options,
    });
  }

  /** A text by chance, or undefined where it did not end in `tokensMax`. @throws RuntimeError where the grammar cannot be compiled */
  async walk(guide: Guide, random: SeededRandom, tokensMax = 400): Promise<string | undefined> {
    const tokens: number[] = [];
    const isOver = await this.follow(guide, tokens, (allowed) => {
      if (tokens.length >= tokensMax) return undefined;
      return this.#pick(allowed, random, tokens.length > tokensMax / 3);
    });
    return isOver
      ? Buffer.from(
          tokens.map((token) => this.#tokenizer.tokenBytes(token)).flatMap((bytes) => [...bytes]),
        ).toString()
      : undefined;
  }

  /** Follows a guide: `choose` gets the allowed tokens and says which comes next, or undefined to leave. @returns whether it came to its end */
  async follow(
    guide: Guide,
    tokens: number[],
    choose: (allowed: number[]) => number | undefined,
  ): Promise<boolean> {
    const lease = this.guidance.lease(guide, this.#tokenizer.stopTokenIds);
    try {
      await new Promise<void>((resolve, reject) => {
        if (lease.isReady) resolve();
        else lease.onReady((error) => (error ? reject(error) : resolve()));
      });
      const sequence = lease.open(() => Int32Array.from(tokens));
      try {
        for (;;) {
          this.guidance.flush();
          const state = await this.#stateOf(sequence);
          if (state === guideState.done) return true;
          if (state === guideState.stuck) throw new Error(`stuck behind ${tokens.join(' ')}`);
          const token = choose(allowedBy(sequence.mask, this.#tokenizer.vocabularySize));
          if (token === undefined) return false;
          if (this.#tokenizer.stopTokenIds.includes(token)) return true;
          tokens.push(token);
          sequence.accept(token);
        }
      } finally {
        sequence.close();
        this.guidance.flush();
      }
    } finally {
      lease.release();
    }
  }

  close(): Promise<void> {
    return this.guidance.close();
  }

  async #stateOf(sequence: SequenceGuide): Promise<number> {
    for (;;) {
      const told = new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
      sequence.await();
      if (sequence.isAnswered) return sequence.state;
      await told;
    }
  }

  /** The end where it may be, closing signs more often than others, whole characters only. */
  #pick(allowed: number[], random: SeededRandom, isLate: boolean): number | undefined {
    const stop = allowed.find((token) => this.#tokenizer.stopTokenIds.includes(token));
    if (stop !== undefined) return stop;
    const whole = allowed.filter(
      (token) => token < 0xc0 || (token >= 0xc2 && token < 0xe0) || (token > 0xe0 && token < 0xed),
    );
    const from = whole.length > 0 ? whole : allowed;
    const closing = from.filter((token) => (isLate ? '"' : '"}]').includes(String.fromCharCode(token)));
    const pool = closing.length > 0 && (isLate || random.next() < 0.3) ? closing : from;
    return pool[Math.floor(random.next() * pool.length)];
  }
}

/** The set bits of a mask. */
export function allowedBy(mask: Uint32Array, vocabularySize: number): number[] {
  const allowed: number[] = [];
  for (let token = 0; token < vocabularySize; token++) {
    if (((mask[token >> 5] as number) >>> (token & 31)) & 1) allowed.push(token);
  }
  return allowed;
}

import type { NereidError } from '../../base/errors.ts';
import { definite } from '../../base/errors.ts';
import type { GenerationDelta, GenerationUsage } from '../../generation/generation.ts';
import type { GatheredAnswer } from '../answering.ts';

/** What an answer is made of, when all embeddings are there. */
export type EmbeddingWording<T> = (embeddings: readonly T[], usage: GenerationUsage) => object;

/** Gathers the embeddings of one request's inputs, each made into what the answer holds as soon as it is there. */
export class EmbeddingAnswer<T> implements GatheredAnswer {
  readonly body: Promise<object>;
  readonly finishReasons = 'stop';
  readonly #made: T[] = [];
  readonly #make: (pooled: Float32Array, input: number) => T;
  readonly #word: EmbeddingWording<T>;
  #resolve: (body: object) => void = () => {};
  #reject: (error: NereidError) => void = () => {};

  /** @param make of an embedding as the engine pooled it */
  constructor(make: (pooled: Float32Array, input: number) => T, word: EmbeddingWording<T>) {
    this.#make = make;
    this.#word = word;
    this.body = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  start(): void {}

  delta(input: number, { embedding }: GenerationDelta): void {
    if (embedding) this.#made[input] = this.#make(embedding, input);
  }

  end(usage: GenerationUsage): void {
    this.#resolve(this.#word(this.#made, usage));
  }

  fail(error: NereidError): void {
    this.#reject(error);
  }
}

/** The embedding of an input that was computed. */
export function madeOf<T>(made: readonly T[], input: number): T {
  return definite(made[input], `the embedding of input ${input}`);
}

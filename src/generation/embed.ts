import { definite, type NereidError } from '../base/errors.ts';
import { greedySampling, type Pooling } from '../runtime/requests/request.ts';
import type { TextModel } from './generation.ts';
import { GenerationGroup } from './generation-group.ts';
import { embeddingOf } from './vectors.ts';

/** How inputs become vectors. */
export interface EmbedOptions {
  /** The last token's hidden state (default), or the mean of all. */
  pooling?: Pooling;
  /** Only the first so many elements, for models trained for that. */
  dimensions?: number;
  /** To length 1; default true. */
  normalize?: boolean;
  /** Requests with different salts share no prefix. */
  cacheSalt?: string;
  /** Higher first. */
  priority?: number;
  signal?: AbortSignal;
}

/**
 * One vector for each input, in order; computed in the same batches as everything else.
 * @throws RuntimeError `OUTPUTS_UNSUPPORTED`, `PROMPT_TOO_LONG`, `REQUEST_INVALID`, `QUEUE_FULL`; what the signal was aborted with
 */
export async function embedAll(
  model: TextModel,
  inputs: readonly Int32Array[],
  options: EmbedOptions = {},
): Promise<Float32Array[]> {
  const { pooling = 'last', dimensions, normalize = true, cacheSalt, priority = 0, signal } = options;
  signal?.throwIfAborted();
  if (inputs.length === 0) return [];
  const embeddings: Float32Array[] = [];
  const common = {
    ...{ sampling: greedySampling, maxTokens: 0, minTokens: 0, stopTokenIds: [], ignoreEos: true },
    ...{ stopStrings: [], includeStopString: false, skipSpecialTokens: true, sequences: 1 },
    ...{ cacheSalt, priority, returns: { pooling } },
  };
  await new Promise<void>((resolve, reject) => {
    const group = new GenerationGroup(
      model,
      inputs.map((promptTokens) => ({ ...common, promptTokens })),
      {
        start: () => {},
        delta: (input, { embedding }) => {
          if (embedding) embeddings[input] = embeddingOf(embedding, dimensions, normalize);
        },
        end: () => over(resolve),
        fail: (error: NereidError) => over(() => reject(error)),
      },
    );
    const abort = (): void => {
      group.cancel();
      over(() => reject(signal?.reason));
    };
    const over = (settle: () => void): void => {
      signal?.removeEventListener('abort', abort);
      settle();
    };
    signal?.addEventListener('abort', abort, { once: true });
  });
  return inputs.map((_, input) => definite(embeddings[input], `the embedding of input ${input}`));
}

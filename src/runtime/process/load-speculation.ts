import type { DeviceModelSource } from '../../device/device.ts';
import { RuntimeError } from '../errors.ts';
import { createKvCache } from '../kv/create.ts';
import { NgramDrafter } from '../speculation/ngram.ts';
import type { SpeculationSettings } from '../speculation/settings.ts';
import type { SpeculationOptions } from '../speculation/speculation.ts';
import { type EngineSizes, loadModel } from './load-model.ts';

/** Share of the device's free memory that a draft model's KV cache may take: it is loaded first, and the model itself must still fit. */
const draftMemoryShare = 0.1;

/** Weights up to it lie in a core's own cache, where waking other threads for every step costs more than they save. */
const singleThreadWeightBytesMax = 32 * 1024 * 1024;

/**
 * Makes what an engine guesses tokens with. To be called before the model itself is loaded, whose KV cache may take all the memory that is left.
 * @param draft the draft model or head, where the settings ask for one
 * @throws RuntimeError `OPTIONS_INVALID` for a draft model with another vocabulary; DeviceError
 */
export async function loadSpeculation(
  settings: SpeculationSettings,
  target: Pick<DeviceModelSource, 'vocabularySize' | 'contextLength'>,
  draft: DeviceModelSource | undefined,
  sizes: EngineSizes,
): Promise<SpeculationOptions> {
  const { draftsMax } = settings;
  if (settings.method === 'ngram') return { drafter: new NgramDrafter(settings.lengths), draftsMax };
  const isHead = settings.method === 'draft-head';
  if (!draft) {
    const flag = isHead ? '--draft-head' : '--draft-model';
    throw new RuntimeError(
      'OPTIONS_INVALID',
      `speculation by a ${settings.method} needs one: name it (${flag})`,
    );
  }
  if (draft.vocabularySize !== target.vocabularySize) {
    throw new RuntimeError(
      'OPTIONS_INVALID',
      `the draft model has a vocabulary of ${draft.vocabularySize} tokens, the model one of ${target.vocabularySize}; ` +
        'take a draft model with the same tokenizer',
    );
  }
  const contextLength = Math.min(draft.contextLength, sizes.contextLength ?? target.contextLength);
  const { model, options } = await loadModel('draft', draft, {
    ...sizes,
    contextLength,
    threads: weightBytesOf(draft) <= singleThreadWeightBytesMax ? 1 : sizes.threads,
    adapters: undefined,
    kvBytesMax: undefined,
    kvPositionsMax: undefined,
    kvHostBytesMax: undefined,
    kvMemoryShare: draftMemoryShare,
  });
  const cache = createKvCache(model.kv, {
    contextLength: options.contextLength,
    kvBytesMax: options.kvBytesMax,
    // What a head computed depends on more than its tokens.
    prefixReuse: sizes.prefixReuse && !isHead,
    prefixCacheBytesMax: options.kvBytesMax,
  });
  const { vocabularySize, batchTokensMax } = options;
  const own = { model, cache, vocabularySize, contextLength: options.contextLength, batchTokensMax };
  if (isHead) {
    if (!model.hiddenWidth) {
      model.close();
      const problem = `the device '${options.device}' gives no hidden states, from which a draft head guesses`;
      throw new RuntimeError(
        'OPTIONS_INVALID',
        `${problem}; serve without --draft-head, or on another device`,
      );
    }
    const { HeadDrafter } = await import('../speculation/head-drafter.ts');
    return { drafter: new HeadDrafter({ ...own, hiddenWidth: draft.hiddenWidth }), draftsMax };
  }
  const { ModelDrafter } = await import('../speculation/model-drafter.ts');
  return { drafter: new ModelDrafter(own), draftsMax };
}

function weightBytesOf({ weights }: DeviceModelSource): number {
  let bytes = 0;
  for (const { byteLength } of weights.values()) bytes += byteLength;
  return bytes;
}

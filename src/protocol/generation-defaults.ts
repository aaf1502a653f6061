import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { GenerationDefaults } from './served-model.ts';

const number = z.number().optional().catch(undefined);

/** The fields of Hugging Face's generation_config.json that a server heeds; a nonsensical one counts as absent. */
const schema = z.object({
  do_sample: z.boolean().optional().catch(undefined),
  temperature: number,
  top_k: number,
  top_p: number,
  min_p: number,
  repetition_penalty: number,
  max_new_tokens: number,
});

/**
 * What a checkpoint advises for requests that do not say, from the `generation_config.json` beside its tokenizer (none: no advice).
 * `do_sample: false` means greedy, as it does in transformers.
 */
export async function generationDefaults(folder: string): Promise<GenerationDefaults> {
  const text = await readFile(join(folder, 'generation_config.json'), 'utf8').catch(() => '{}');
  const config = schema.parse(JSON.parse(text));
  const defaults: GenerationDefaults = {
    temperature: config.do_sample === false ? 0 : config.temperature,
    topK: config.top_k,
    topP: config.top_p,
    minP: config.min_p,
    repetitionPenalty: config.repetition_penalty,
    maxTokens: config.max_new_tokens,
  };
  return Object.fromEntries(Object.entries(defaults).filter(([, value]) => value !== undefined));
}

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { messageOf } from '../base/errors.ts';
import { ProtocolError } from './errors.ts';
import type { GenerationDefaults } from './served-model.ts';

const fileName = 'generation_config.json';

/**
 * The fields of Hugging Face's generation_config.json that a server heeds, within what a request may ask for (docs/openai.md); a
 * nonsensical one counts as absent.
 */
const schema = z.object({
  do_sample: z.boolean().optional().catch(undefined),
  temperature: z.number().min(0).max(2).optional().catch(undefined),
  // As in requests: −1 and 0 are "all".
  top_k: z.int().min(-1).optional().catch(undefined),
  top_p: z.number().gt(0).max(1).optional().catch(undefined),
  min_p: z.number().min(0).max(1).optional().catch(undefined),
  repetition_penalty: z.number().gt(0).max(10).optional().catch(undefined),
  max_new_tokens: z.int().min(1).optional().catch(undefined),
});

/**
 * What a checkpoint advises for requests that do not say, from the `generation_config.json` beside its tokenizer (none: no advice).
 * `do_sample: false` means greedy, as it does in transformers.
 * @throws ProtocolError GENERATION_CONFIG_INVALID if the file cannot be read or is no JSON object
 */
export async function generationDefaults(folder: string): Promise<GenerationDefaults> {
  const config = await readConfig(join(folder, fileName));
  const defaults: GenerationDefaults = {
    temperature: config.do_sample === false ? 0 : config.temperature,
    topK: config.top_k === undefined ? undefined : Math.max(0, config.top_k),
    topP: config.top_p,
    minP: config.min_p,
    repetitionPenalty: config.repetition_penalty,
    maxTokens: config.max_new_tokens,
  };
  return Object.fromEntries(Object.entries(defaults).filter(([, value]) => value !== undefined));
}

async function readConfig(path: string): Promise<z.infer<typeof schema>> {
  try {
    const parsed = schema.safeParse(JSON.parse(await readFile(path, 'utf8')));
    if (parsed.success) return parsed.data;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw invalid(path, messageOf(error), error);
  }
  throw invalid(path, 'not a JSON object');
}

function invalid(path: string, problem: string, cause?: unknown): ProtocolError {
  const message = `${path} cannot be read as ${fileName} (${problem}); repair or remove it`;
  return new ProtocolError('GENERATION_CONFIG_INVALID', message, { cause });
}

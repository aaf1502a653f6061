import { readFile } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { messageOf } from '../../base/errors.ts';
import { RepositoryError } from '../errors.ts';

/** What `1/model.yaml` says: `triton_config` for the server, the rest for the LLM. */
const schema = z.looseObject({
  model: z.string().min(1),
  max_batch_size: z.int().min(1).optional(),
  kv_cache_config: z
    .looseObject({
      enable_block_reuse: z.boolean().optional(),
      max_tokens: z.int().min(1).optional(),
      free_gpu_memory_fraction: z.number().gt(0).max(1).optional(),
    })
    .optional(),
  triton_config: z
    .looseObject({ max_batch_size: z.int().min(0).default(0), decoupled: z.boolean().default(false) })
    .default({ max_batch_size: 0, decoupled: false }),
});

/** The settings of an `llmapi` model. */
export type LlmSettings = z.infer<typeof schema>;

/** Names another file than `1/model.yaml`. */
export const settingsVariable = 'LLM_CONFIG_PATH';

/**
 * Reads a model's settings.
 * @throws RepositoryError INVALID_ARGUMENT with the file and the field
 */
export async function readSettings(versionFolder: string): Promise<LlmSettings> {
  const given = process.env[settingsVariable];
  const path = given
    ? isAbsolute(given)
      ? given
      : join(versionFolder, given)
    : join(versionFolder, 'model.yaml');
  let value: unknown;
  try {
    value = parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new RepositoryError('INVALID_ARGUMENT', `failed to read ${path}: ${messageOf(cause)}`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const field = issue?.path.join('.') || 'the file';
  throw new RepositoryError('INVALID_ARGUMENT', `${path}: ${field}: ${issue?.message}`);
}

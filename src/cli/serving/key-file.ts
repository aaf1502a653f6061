import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { messageOf } from '../../base/errors.ts';
import { type ApiKey, keyDigest } from '../../protocol/authentication.ts';
import { CliError } from '../errors.ts';

/** Keys in one file. */
export const keysMax = 10_000;
/** Shorter keys can be guessed. */
export const keyLengthMin = 8;

const positive = z.number().positive();
const row = z
  .strictObject({
    name: z.string().min(1).max(100),
    key: z.string().min(keyLengthMin).optional(),
    'key-sha256': z
      .string()
      .regex(/^[0-9a-f]{64}$/i, 'must be 64 hexadecimal digits')
      .optional(),
    'requests-per-minute': positive.optional(),
    'tokens-per-minute': positive.optional(),
    'concurrent-requests': z.int().positive().optional(),
  })
  .refine(
    (value) => (value.key === undefined) !== (value['key-sha256'] === undefined),
    'give either key or key-sha256',
  );
const file = z.strictObject({ keys: z.array(row).min(1).max(keysMax) });

/**
 * Reads a file of API keys (YAML or JSON); see docs/serving.md.
 * @throws CliError API_KEYS_INVALID with the place of the mistake
 */
export async function readKeyFile(path: string): Promise<ApiKey[]> {
  let value: unknown;
  // Most servers have no such file: none of them waits for the parser to load.
  const { parse } = await import('yaml');
  try {
    value = parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw invalid(path, messageOf(cause).split('\n', 1)[0] ?? '', cause);
  }
  const parsed = file.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw invalid(path, `${issue?.path.join('.') || 'the file'}: ${issue?.message}`);
  }
  const { keys } = parsed.data;
  for (const field of ['name', 'key', 'key-sha256'] as const) {
    const values = keys.map((key) => key[field]).filter((one) => one !== undefined);
    if (new Set(values).size < values.length) throw invalid(path, `two keys have the same ${field}`);
  }
  return keys.map((key) => ({
    name: key.name,
    sha256: key['key-sha256'] ?? keyDigest(key.key ?? ''),
    requestsPerMinute: key['requests-per-minute'],
    tokensPerMinute: key['tokens-per-minute'],
    concurrentRequests: key['concurrent-requests'],
  }));
}

function invalid(path: string, reason: string, cause?: unknown): CliError {
  return new CliError('API_KEYS_INVALID', `${path} holds no API keys that can be used: ${reason}`, {
    cause,
    usage: false,
  });
}

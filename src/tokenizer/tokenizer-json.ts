import { z } from 'zod';
import { messageOf } from '../base/errors.ts';
import { TokenizerError } from './errors.ts';

/** A component of the pipeline: its `type` and whatever that type takes. */
export type Component = { type: string } & Record<string, unknown>;

const component = z.looseObject({ type: z.string() });
const tokenText = z.union([z.string(), z.looseObject({ content: z.string() })]).nullish();

const addedToken = z.looseObject({
  id: z.int().min(0),
  content: z.string(),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  normalized: z.boolean().optional(),
  special: z.boolean().default(false),
});

/** The parts of a `tokenizer.json` that are read here; its vocabulary and merges are checked where they are used. */
const tokenizerJson = z.looseObject({
  added_tokens: z.array(addedToken).default([]),
  normalizer: component.nullish(),
  pre_tokenizer: component.nullish(),
  post_processor: component.nullish(),
  decoder: component.nullish(),
  model: z.looseObject({ type: z.string().optional() }),
});

/** The parts of a `tokenizer_config.json` that are read here. */
const tokenizerConfig = z.looseObject({
  tokenizer_class: z.string().nullish(),
  bos_token: tokenText,
  eos_token: tokenText,
  unk_token: tokenText,
  add_bos_token: z.boolean().nullish(),
  add_eos_token: z.boolean().nullish(),
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
    .nullish(),
});

const generationConfig = z.looseObject({
  bos_token_id: z.int().nullish(),
  eos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
});

export type TokenizerJson = z.output<typeof tokenizerJson>;
export type TokenizerConfig = z.output<typeof tokenizerConfig>;
export type GenerationConfig = z.output<typeof generationConfig>;

/** The largest tokenizer.json read (the largest known, with 262k tokens, has 33 MB). */
export const tokenizerJsonBytesMax = 256 * 1024 * 1024;

function parse<T>(file: string, text: string, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TokenizerError(
      'TOKENIZER_INVALID',
      `${file} is not JSON: ${messageOf(cause)}; fetch it again`,
      {
        cause,
      },
    );
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = issue?.path.join('.') || 'the root';
  throw new TokenizerError('TOKENIZER_INVALID', `${file}: ${where}: ${issue?.message}; fetch the file again`);
}

/** @throws TokenizerError TOKENIZER_INVALID */
export const parseTokenizerJson = (text: string): TokenizerJson =>
  parse('tokenizer.json', text, tokenizerJson);
export const parseTokenizerConfig = (text: string): TokenizerConfig =>
  parse('tokenizer_config.json', text, tokenizerConfig);
export const parseGenerationConfig = (text: string): GenerationConfig =>
  parse('generation_config.json', text, generationConfig);

/** The text of a token given by name or as an added-token object. */
export function contentOf(token: string | { content: string } | null | undefined): string | undefined {
  return typeof token === 'string' ? token : (token?.content ?? undefined);
}

/** A component's parts, `Sequence`s unfolded. */
export function flatten(root: Component | null | undefined): Component[] {
  if (!root) return [];
  const parts = root.pretokenizers ?? root.normalizers ?? root.processors ?? root.decoders;
  if (root.type !== 'Sequence' || !Array.isArray(parts)) return [root];
  return parts.flatMap((part) => flatten(component.parse(part)));
}

import { z } from 'zod';
import { cacheSaltLengthMax } from '../../runtime/requests/validate.ts';
import { isListOf, isPrompt, promptTokens } from './requests.ts';

/** What all requests that embed say. `pooling` is Nereid's own: vLLM sets it when the server starts. */
const embeddingFields = {
  model: z.string().nullish(),
  truncate_prompt_tokens: z
    .int()
    .min(-1)
    .refine((count) => count !== 0, 'must be -1 or at least 1')
    .nullish(),
  add_special_tokens: z.boolean().nullish(),
  cache_salt: z.string().min(1).max(cacheSaltLengthMax).nullish(),
  priority: z.int().nullish(),
  pooling: z.enum(['last', 'mean']).nullish(),
  user: z.string().nullish(),
};

const isText = (value: unknown) => typeof value === 'string';

export const embeddingRequest = z.looseObject({
  ...embeddingFields,
  input: z.union([
    z.string(),
    promptTokens,
    z.custom<string[]>((value) => isListOf(isText, value)),
    z.custom<number[][]>((value) => isListOf(isPrompt, value)),
  ]),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: z.int().min(1).nullish(),
  normalize: z.boolean().nullish(),
});
export type EmbeddingRequest = z.infer<typeof embeddingRequest>;

const texts = z.union([z.string(), z.array(z.string()).min(1)]);

/** vLLM's /score. */
export const scoreRequest = z.looseObject({ ...embeddingFields, text_1: texts, text_2: texts });
export type ScoreRequest = z.infer<typeof scoreRequest>;

/** Jina's and Cohere's rerank, as vLLM has it. */
export const rerankRequest = z.looseObject({
  ...embeddingFields,
  query: z.string(),
  documents: z.array(z.union([z.string(), z.looseObject({ text: z.string() })])).min(1),
  top_n: z.int().min(0).nullish(),
  return_documents: z.boolean().nullish(),
});
export type RerankRequest = z.infer<typeof rerankRequest>;

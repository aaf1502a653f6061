import { z } from 'zod';
import {
  logprobsMax,
  sequencesPerRequestMax,
  stopStringBytesMax,
  stopStringsMax,
} from '../../base/limits.ts';
import {
  cacheSaltLengthMax,
  logitBiasMax,
  noRepeatNgramSizeMax,
  stopTokenIdsMax,
} from '../../runtime/requests/validate.ts';
import { draftTokensMax } from '../../runtime/speculation/governor.ts';
import { ngramLengthMax } from '../../runtime/speculation/ngram-lengths.ts';
import { chatTemplateLengthMax } from '../../tokenizer/chat-template.ts';
import { badWordLengthMax, chatMessagesMax, chatToolsMax, shortTextLengthMax } from '../limits.ts';

/**
 * Request bodies of the OpenAI API with vLLM's extensions. `null` means "not given", as it does there. Fields that neither API has are
 * ignored as vLLM ignores them; fields that they have and we cannot honour are refused by name (`refused-fields.ts`).
 */

const shortText = z.string().max(shortTextLengthMax);
const tokenId = z.int().min(0);
// The limit in bytes is the stop string matcher's own.
const stopString = z.string().min(1, 'must not be empty').max(stopStringBytesMax);

/** Checked in one go: a schema's error for each of a million ids would be the end of the process. */
const tokenIds = z.custom<number[]>(isTokenIds, 'must be token ids: integers from 0');

function isTokenIds(value: unknown): boolean {
  return Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0);
}

/** Sampling and stopping, the same for chats and completions. */
const generationFields = {
  model: z.string().nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0, 'must be over 0; for greedy decoding send temperature 0').max(1).nullish(),
  top_k: z.int().min(-1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  n: z.int().min(1).max(sequencesPerRequestMax).nullish(),
  stop: z.union([stopString, z.array(stopString).max(stopStringsMax)]).nullish(),
  stop_token_ids: z.array(tokenId).max(stopTokenIdsMax).nullish(),
  ignore_eos: z.boolean().nullish(),
  min_tokens: z.int().min(0).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  repetition_penalty: z.number().gt(0).max(10).nullish(),
  logit_bias: z
    .record(z.string().regex(/^\d{1,9}$/, 'keys are token ids'), z.number().min(-100).max(100))
    .refine((bias) => Object.keys(bias).length <= logitBiasMax, `at most ${logitBiasMax} entries`)
    .nullish(),
  allowed_token_ids: tokenIds.refine((ids) => ids.length > 0, 'must not be empty').nullish(),
  bad_words: z.array(z.string().max(badWordLengthMax)).nullish(),
  no_repeat_ngram_size: z.int().min(0).max(noRepeatNgramSizeMax).nullish(),
  top_p_decay: z.number().gt(0).max(1).nullish(),
  top_p_min: z.number().gt(0).max(1).nullish(),
  top_p_reset_ids: tokenId.nullish(),
  // 64-bit seeds are in use; JSON.parse rounds them, and the rounded value is as good a seed.
  seed: z.number().refine(Number.isInteger, 'must be an integer').nullish(),
  stream: z.boolean().nullish(),
  stream_options: z
    .object({ include_usage: z.boolean().nullish(), continuous_usage_stats: z.boolean().nullish() })
    .nullish(),
  num_speculative_tokens: z.int().min(0).max(draftTokensMax).nullish(),
  prompt_lookup_max: z.int().min(1).max(ngramLengthMax).nullish(),
  prompt_lookup_min: z.int().min(1).max(ngramLengthMax).nullish(),
  cache_salt: z.string().min(1).max(cacheSaltLengthMax).nullish(),
  priority: z.int().nullish(),
  include_stop_str_in_output: z.boolean().nullish(),
  skip_special_tokens: z.boolean().nullish(),
  return_token_ids: z.boolean().nullish(),
  prompt_logprobs: z.int().min(0).max(logprobsMax).nullish(),
  use_beam_search: z.boolean().nullish(),
  length_penalty: z.number().min(-100).max(100).nullish(),
  early_stopping: z.union([z.boolean(), z.literal('never')]).nullish(),
  truncate_prompt_tokens: z
    .int()
    .min(-1)
    .refine((count) => count !== 0, 'must be -1 or at least 1')
    .nullish(),
  user: z.string().nullish(),
  response_format: z.looseObject({ type: z.string() }).nullish(),
  structured_outputs: z.looseObject({}).nullish(),
  guided_json: z.union([z.string(), z.boolean(), z.looseObject({})]).nullish(),
  guided_regex: z.string().nullish(),
  guided_choice: z.array(z.string()).nullish(),
  guided_grammar: z.string().nullish(),
  structural_tag: z.union([z.string(), z.looseObject({})]).nullish(),
};

const textPart = z
  .looseObject({ type: z.string(), text: z.string().optional() })
  .superRefine((part, context) => {
    if (part.type === 'refusal') return;
    if (part.type !== 'text') {
      const message = `content parts of type '${part.type.slice(0, 40)}' are not supported; send text parts`;
      context.addIssue({ code: 'custom', message, params: { unsupported: true } });
    } else if (part.text === undefined)
      context.addIssue({ code: 'custom', message: 'a text part needs a text' });
  });
const content = z.union([z.string(), z.array(textPart)]);
const toolCall = z.looseObject({
  id: z.string().optional(),
  type: z.literal('function').optional(),
  function: z.looseObject({ name: z.string(), arguments: z.string() }),
});

const message = z
  .looseObject({
    role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
    content: content.nullish(),
    name: z.string().optional(),
    tool_calls: z.array(toolCall).nullish(),
    tool_call_id: z.string().optional(),
  })
  .superRefine((value, context) => {
    if (value.content === undefined || value.content === null) {
      if (value.role === 'assistant') return;
      context.addIssue({
        code: 'custom',
        message: `a ${value.role} message needs content`,
        path: ['content'],
      });
    }
  });

const tool = z.looseObject({
  type: z.literal('function'),
  function: z.looseObject({ name: z.string(), description: z.string().nullish() }),
});

export const chatCompletionRequest = z.looseObject({
  ...generationFields,
  messages: z.array(message).min(1).max(chatMessagesMax),
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(logprobsMax).nullish(),
  tools: z.array(tool).max(chatToolsMax).nullish(),
  tool_choice: z.union([z.enum(['none', 'auto', 'required']), z.looseObject({ type: z.string() })]).nullish(),
  add_generation_prompt: z.boolean().nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
  reasoning_effort: shortText.nullish(),
  prediction: z.looseObject({ type: z.literal('content'), content }).nullish(),
  echo: z.boolean().nullish(),
  continue_final_message: z.boolean().nullish(),
  chat_template: z.string().max(chatTemplateLengthMax).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  include_reasoning: z.boolean().nullish(),
});
export type ChatCompletionRequest = z.infer<typeof chatCompletionRequest>;

/** Token ids of a text. */
export const promptTokens = tokenIds.refine((ids) => ids.length > 0, 'must not be empty');

/** Whether a value is a list, not empty, of such elements. */
export function isListOf(isElement: (value: unknown) => boolean, value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.every(isElement);
}

const isText = (value: unknown) => typeof value === 'string';
/** Whether a value is token ids of a text. */
export const isPrompt = (value: unknown) => isTokenIds(value) && (value as number[]).length > 0;

export const completionRequest = z.looseObject({
  ...generationFields,
  prompt: z.union([
    z.string(),
    promptTokens,
    z.custom<string[]>((value) => isListOf(isText, value)),
    z.custom<number[][]>((value) => isListOf(isPrompt, value)),
  ]),
  suffix: z.string().nullish(),
  max_tokens: z.int().min(0).nullish(),
  logprobs: z.int().min(0).max(logprobsMax).nullish(),
  echo: z.boolean().nullish(),
  best_of: z.int().min(1).max(sequencesPerRequestMax).nullish(),
  add_special_tokens: z.boolean().nullish(),
});
export type CompletionRequest = z.infer<typeof completionRequest>;

/** vLLM's /tokenize: of a text, or of a chat. */
export const tokenizeRequest = z.looseObject({
  model: z.string().nullish(),
  prompt: z.string().nullish(),
  messages: z.array(message).min(1).max(chatMessagesMax).nullish(),
  tools: z.array(tool).max(chatToolsMax).nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
  add_generation_prompt: z.boolean().nullish(),
  continue_final_message: z.boolean().nullish(),
  chat_template: z.string().max(chatTemplateLengthMax).nullish(),
  add_special_tokens: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
});

/** vLLM's /detokenize. */
export const detokenizeRequest = z.looseObject({
  model: z.string().nullish(),
  tokens: tokenIds,
});

/** What chats and completions share, as parsed. */
export type GenerationFields = Pick<
  ChatCompletionRequest & CompletionRequest,
  Exclude<keyof typeof generationFields, 'model' | 'user'>
>;

/** Fields that hold token ids. */
export const tokenFields = ['prompt', 'tokens', 'allowed_token_ids', 'input'];

import { z } from 'zod';
import { stopStringBytesMax, stopStringsMax } from '../../base/limits.ts';
import { chatMessagesMax, chatToolsMax, shortTextLengthMax } from '../limits.ts';

/**
 * Bodies of OpenAI's Responses API. `null` means "not given". Items and tools of kinds that need a service of OpenAI's (files, web
 * search, images) are refused by name.
 */
const textPart = z
  .looseObject({ type: z.string(), text: z.string().optional(), refusal: z.string().optional() })
  .superRefine((part, context) => {
    if (part.type === 'refusal') return;
    if (['input_text', 'output_text', 'text', 'reasoning_text', 'summary_text'].includes(part.type)) {
      if (part.text === undefined) context.addIssue({ code: 'custom', message: 'a text part needs a text' });
      return;
    }
    const message = `content parts of type '${part.type.slice(0, 40)}' are not supported; send input_text`;
    context.addIssue({ code: 'custom', message, params: { unsupported: true } });
  });
const content = z.union([z.string(), z.array(textPart)]);

const messageItem = z.looseObject({
  type: z.literal('message').optional(),
  role: z.enum(['user', 'assistant', 'system', 'developer']),
  content,
});
const callItem = z.looseObject({
  type: z.literal('function_call'),
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
});
const callOutputItem = z.looseObject({
  type: z.literal('function_call_output'),
  call_id: z.string(),
  output: content,
});
const reasoningItem = z.looseObject({
  type: z.literal('reasoning'),
  summary: z.array(textPart).nullish(),
  content: z.array(textPart).nullish(),
});
const itemKinds: Readonly<Record<string, z.ZodType>> = {
  message: messageItem,
  function_call: callItem,
  function_call_output: callOutputItem,
  reasoning: reasoningItem,
};

/** Checked against the schema of its own kind, so that the complaint is about that one. */
const item = z.looseObject({ type: z.string().optional() }).superRefine((value, context) => {
  const kind = value.type ?? 'message';
  const schema = Object.hasOwn(itemKinds, kind) ? itemKinds[kind] : undefined;
  if (!schema) {
    const message = `items of type '${kind.slice(0, 40)}' are not supported here`;
    context.addIssue({ code: 'custom', message, params: { unsupported: true } });
    return;
  }
  for (const issue of schema.safeParse(value).error?.issues ?? []) {
    context.addIssue({ ...(issue as z.core.$ZodIssue & { code: 'custom' }) });
  }
});

const tool = z
  .looseObject({ type: z.string(), name: z.string().optional() })
  .superRefine((value, context) => {
    if (value.type !== 'function') {
      const message = `tools of type '${value.type.slice(0, 40)}' are not supported; only functions are`;
      context.addIssue({ code: 'custom', message, params: { unsupported: true } });
    } else if (value.name === undefined)
      context.addIssue({ code: 'custom', message: 'a function needs a name', path: ['name'] });
  });

const stopString = z.string().min(1, 'must not be empty').max(stopStringBytesMax);

export const responseRequest = z.looseObject({
  model: z.string().nullish(),
  input: z.union([z.string(), z.array(item).max(chatMessagesMax)]),
  instructions: z.string().nullish(),
  previous_response_id: z.string().max(shortTextLengthMax).nullish(),
  max_output_tokens: z.int().min(1).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.int().min(-1).nullish(),
  seed: z.int().nullish(),
  stop: z.union([stopString, z.array(stopString).max(stopStringsMax)]).nullish(),
  stream: z.boolean().nullish(),
  store: z.boolean().nullish(),
  tools: z.array(tool).max(chatToolsMax).nullish(),
  tool_choice: z.union([z.enum(['none', 'auto', 'required']), z.looseObject({ type: z.string() })]).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  text: z.looseObject({ format: z.looseObject({ type: z.string() }).nullish() }).nullish(),
  reasoning: z.looseObject({ effort: z.string().max(shortTextLengthMax).nullish() }).nullish(),
  truncation: z.enum(['auto', 'disabled']).nullish(),
  include: z.array(z.string()).nullish(),
  background: z.boolean().nullish(),
  top_logprobs: z.int().min(0).nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
  user: z.string().nullish(),
});
export type ResponseRequest = z.infer<typeof responseRequest>;

export type MessageItem = z.infer<typeof messageItem>;
export type CallItem = z.infer<typeof callItem>;
export type CallOutputItem = z.infer<typeof callOutputItem>;
export type ReasoningItem = z.infer<typeof reasoningItem>;
/** What the checked items of a request are. */
export type InputItem = MessageItem | CallItem | CallOutputItem | ReasoningItem;

import { z } from 'zod';
import { stopStringBytesMax, stopStringsMax } from '../../base/limits.ts';
import { chatMessagesMax, chatToolsMax } from '../limits.ts';

/** Bodies of Anthropic's Messages API. Blocks and tools of kinds that need more than text are refused by name. */

const textBlock = z.looseObject({ type: z.literal('text'), text: z.string() });
const resultContent = z.union([z.string(), z.array(textBlock)]);
const blockKinds: Readonly<Record<string, z.ZodType>> = {
  text: textBlock,
  thinking: z.looseObject({ type: z.literal('thinking'), thinking: z.string() }),
  redacted_thinking: z.looseObject({ type: z.literal('redacted_thinking') }),
  tool_use: z.looseObject({
    type: z.literal('tool_use'),
    id: z.string(),
    name: z.string(),
    input: z.record(z.string(), z.unknown()),
  }),
  tool_result: z.looseObject({
    type: z.literal('tool_result'),
    tool_use_id: z.string(),
    content: resultContent.nullish(),
  }),
};

/** Checked against the schema of its own kind, so that the complaint is about that one. */
const block = z
  .looseObject({
    type: z.string(),
    text: z.string().optional(),
    thinking: z.string().optional(),
    id: z.string().optional(),
    name: z.string().optional(),
    input: z.record(z.string(), z.unknown()).optional(),
    tool_use_id: z.string().optional(),
  })
  .superRefine((value, context) => {
    const schema = Object.hasOwn(blockKinds, value.type) ? blockKinds[value.type] : undefined;
    if (!schema) {
      const message = `content blocks of type '${value.type.slice(0, 40)}' are not supported here; send text`;
      context.addIssue({ code: 'custom', message, params: { unsupported: true } });
      return;
    }
    for (const { path, message } of schema.safeParse(value).error?.issues ?? []) {
      context.addIssue({ code: 'custom', path, message: `a ${value.type} block is incomplete (${message})` });
    }
  });
export type Block = z.infer<typeof block>;

const message = z.looseObject({
  role: z.enum(['user', 'assistant', 'system']),
  content: z.union([z.string(), z.array(block)]),
});
export type Message = z.infer<typeof message>;

const tool = z.looseObject({ type: z.string().nullish(), name: z.string() }).superRefine((value, context) => {
  if ((value.type ?? 'custom') === 'custom') return;
  const text = `tools of type '${String(value.type).slice(0, 40)}' are not supported; only custom ones are`;
  context.addIssue({ code: 'custom', message: text, params: { unsupported: true } });
});

const promptFields = {
  model: z.string().nullish(),
  messages: z.array(message).min(1).max(chatMessagesMax),
  system: z.union([z.string(), z.array(textBlock)]).nullish(),
  tools: z.array(tool).max(chatToolsMax).nullish(),
  tool_choice: z
    .looseObject({
      type: z.enum(['auto', 'any', 'tool', 'none']),
      name: z.string().nullish(),
      disable_parallel_tool_use: z.boolean().nullish(),
    })
    .nullish(),
  thinking: z.looseObject({ type: z.enum(['enabled', 'disabled', 'adaptive']) }).nullish(),
};

const outputFormat = z.looseObject({ type: z.string() });

export const messagesRequest = z.looseObject({
  ...promptFields,
  max_tokens: z.int().min(1),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.int().min(-1).nullish(),
  stop_sequences: z
    .array(z.string().min(1, 'must not be empty').max(stopStringBytesMax))
    .max(stopStringsMax)
    .nullish(),
  stream: z.boolean().nullish(),
  output_config: z.looseObject({ format: outputFormat.nullish() }).nullish(),
  output_format: outputFormat.nullish(),
});
export type MessagesRequest = z.infer<typeof messagesRequest>;

export const countTokensRequest = z.looseObject(promptFields);
export type PromptFields = z.infer<typeof countTokensRequest>;

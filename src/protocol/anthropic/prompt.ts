import type { ChatMessage } from '../../tokenizer/chat-template.ts';
import { type ChatPrompt, encodePrompt, functionTool, renderPrompt } from '../chat-prompt.ts';
import type { ServedModel, TextOptions } from '../served-model.ts';
import type { Block, Message, PromptFields } from './requests.ts';

/**
 * A request's prompt through the model's template. A last message of the assistant is one that the answer goes on with.
 * @throws ProtocolError PARAMETER_INVALID; TokenizerError CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_REJECTED
 */
export async function encodeMessages(
  fields: PromptFields,
  model: ServedModel,
  options: TextOptions,
): Promise<ChatPrompt & { tokens: Int32Array }> {
  const isContinued = fields.messages.at(-1)?.role === 'assistant';
  const prompt = await renderPrompt(
    {
      messages: chatMessages(fields),
      tools: toolsOf(fields).map((tool) => functionTool(tool.name, tool.description, tool.input_schema)),
      addGenerationPrompt: !isContinued,
      continueFinalMessage: isContinued,
      variables: fields.thinking ? { enable_thinking: fields.thinking.type !== 'disabled' } : {},
    },
    model,
    options.signal,
  );
  return {
    ...prompt,
    tokens: await encodePrompt(prompt.text, model, options),
  };
}

/** The tools that the model is offered. */
export function toolsOf(fields: PromptFields): NonNullable<PromptFields['tools']> {
  return fields.tool_choice?.type === 'none' ? [] : (fields.tools ?? []);
}

function chatMessages({ system, messages }: PromptFields): ChatMessage[] {
  const made = messages.flatMap(messagesOf);
  const text = typeof system === 'string' ? system : (system ?? []).map((block) => block.text).join('\n');
  return text === '' ? made : [{ role: 'system', content: text }, ...made];
}

/** The results of tools are messages of their own to templates, in front of what the user says with them. */
function messagesOf({ role, content }: Message): ChatMessage[] {
  if (typeof content === 'string') return [{ role, content }];
  const results = content.filter((block) => block.type === 'tool_result');
  const others = content.filter((block) => block.type !== 'tool_result');
  const made: ChatMessage[] = results.map((block) => ({
    role: 'tool',
    tool_call_id: block.tool_use_id,
    content: resultText(block),
  }));
  if (others.length === 0 && made.length > 0) return made;
  const text = others.map((block) => block.text ?? '').join('');
  const thoughts = others.map((block) => block.thinking ?? '').join('');
  const calls = others.filter((block) => block.type === 'tool_use');
  const message: ChatMessage = { role, content: text };
  if (thoughts !== '') message.reasoning_content = thoughts;
  if (calls.length > 0) {
    message.tool_calls = calls.map(({ id, name, input }) => ({
      id,
      type: 'function',
      function: { name, arguments: input },
    }));
  }
  return [...made, message];
}

function resultText(block: Block): string {
  const content = block.content as string | { text: string }[] | null | undefined;
  return typeof content === 'string' ? content : (content ?? []).map((part) => part.text).join('');
}

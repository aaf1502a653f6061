import { promptBytesMax } from '../base/limits.ts';
import { type ChatMessage, withSpecialTokens } from '../tokenizer/chat-template.ts';
import { ProtocolError } from './errors.ts';
import type { ServedModel, TextOptions } from './served-model.ts';

/** A chat as every protocol asks for it. */
export interface ChatPromptInput {
  messages: readonly ChatMessage[];
  /** In OpenAI's form; absent: none are offered. */
  tools?: readonly unknown[];
  /** Whether to end with the start of an assistant turn. */
  addGenerationPrompt: boolean;
  /** Leaves the last message open, so that the answer goes on with it. */
  continueFinalMessage?: boolean;
  /** A template instead of the model's own. */
  chatTemplate?: string;
  /** Further template variables. */
  variables?: Readonly<Record<string, unknown>>;
}

/** A rendered chat. */
export interface ChatPrompt {
  text: string;
  /** What was asked for and cannot be had, for the log. */
  warning?: string;
}

/**
 * A chat through the model's template, as text. Tools that the template has no place for are described in the system message where the
 * server knows how the model's calls look; else they are left out, with a warning.
 * @throws ProtocolError PARAMETER_INVALID, CONTEXT_LENGTH_EXCEEDED; TokenizerError CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_REJECTED
 */
export async function renderPrompt(
  input: ChatPromptInput,
  model: ServedModel,
  signal?: AbortSignal,
): Promise<ChatPrompt> {
  boundMessages(input.messages, model);
  const template = input.chatTemplate ?? model.chatTemplate;
  const tools = input.tools && input.tools.length > 0 ? input.tools : undefined;
  const isHomeless = tools !== undefined && template !== undefined && !/\btools\b/.test(template);
  const syntax = isHomeless ? model.formats.tools?.callSyntax : undefined;
  const messages = tools && syntax ? withToolPrompt(input.messages, tools, syntax) : input.messages;
  const chat = withSpecialTokens(model.tokenizer, {
    messages,
    tools,
    addGenerationPrompt: input.addGenerationPrompt,
    extra: input.variables,
  });
  const rendered = await model.renderChat(template, chat, signal);
  const text = input.continueFinalMessage ? openedAtLastMessage(rendered, messages) : rendered;
  if (!isHomeless || syntax) return { text };
  return {
    text,
    warning: `the chat template of '${model.name}' takes no tools: they were left out; --tool-call-parser describes them in the prompt`,
  };
}

/** More than a template may write is over every context, and clients look for these words to cut a chat short. */
function boundMessages(messages: readonly ChatMessage[], model: ServedModel): void {
  const units = messages.reduce((sum, message) => sum + plainText(message).length, 0);
  if (units <= promptBytesMax) return;
  const { contextLength } = model.client.description;
  const message = `This model's maximum context length is ${contextLength} tokens. However, your messages have ${units} characters; shorten them (context_length_exceeded)`;
  throw new ProtocolError('CONTEXT_LENGTH_EXCEEDED', message, { parameter: 'messages' });
}

/** Puts the tools' descriptions into the system message. */
function withToolPrompt(
  messages: readonly ChatMessage[],
  tools: readonly unknown[],
  syntax: string,
): readonly ChatMessage[] {
  const list = tools.map((tool) => JSON.stringify(tool)).join('\n');
  const prompt = `You can call these tools:\n${list}\nTo call one, answer with nothing but ${syntax}.`;
  const [first, ...others] = messages;
  if (first?.role !== 'system') return [{ role: 'system', content: prompt }, ...messages];
  return [{ ...first, content: `${plainText(first)}\n\n${prompt}` }, ...others];
}

/** A function as templates expect a tool: what was not given is not there. */
export function functionTool(name: unknown, description: unknown, parameters: unknown): object {
  const given = Object.entries({ name, description, parameters }).filter(
    ([, value]) => value !== undefined && value !== null,
  );
  return { type: 'function', function: Object.fromEntries(given) };
}

/** A chat through the model's template, as tokens: the template wrote the special ones itself. */
export function encodePrompt(text: string, model: ServedModel, options?: TextOptions): Promise<Int32Array> {
  return model.encode(text, { ...options, addSpecialTokens: false });
}

/** Cuts what the template put behind the last message (its end of turn), as transformers' `continue_final_message` does. */
function openedAtLastMessage(text: string, messages: readonly ChatMessage[]): string {
  const content = plainText(messages.at(-1));
  const kept = content.trim();
  const place = kept === '' ? -1 : text.lastIndexOf(kept);
  if (place < 0) {
    const message = 'the last message cannot be continued: it is empty, or the chat template changes it';
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'messages' });
  }
  // A template that keeps the message's spaces keeps those at its end too.
  const whole = content.trimStart();
  return text.slice(0, place) + (text.startsWith(whole, place) ? whole : kept);
}

/** A message's text; '' for none. */
export function plainText(message: ChatMessage | undefined): string {
  const content = message?.content ?? '';
  if (typeof content === 'string') return content;
  return content.map((part) => part.text ?? '').join('');
}

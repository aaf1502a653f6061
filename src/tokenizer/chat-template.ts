import { messageOf } from '../base/errors.ts';
import { BoundedTemplate } from './bounded-template.ts';
import { TokenizerError } from './errors.ts';
import type { Tokenizer } from './types.ts';

/** A part of a message's content. Only text parts reach a template here. */
export interface ChatContentPart {
  type: string;
  text?: string;
}

/** A chat message as OpenAI's API has it; further fields (`tool_calls`, `name`, `reasoning_content`) go to the template as they are. */
export interface ChatMessage {
  role: string;
  content?: string | readonly ChatContentPart[] | null;
  [field: string]: unknown;
}

/** What a chat template is rendered with. */
export interface ChatInput {
  messages: readonly ChatMessage[];
  tools?: readonly unknown[];
  /** Whether to end with the start of an assistant turn. */
  addGenerationPrompt: boolean;
  bosToken?: string;
  eosToken?: string;
  /** Further variables (`chat_template_kwargs`: `enable_thinking`, …). They do not replace the ones above. */
  extra?: Readonly<Record<string, unknown>>;
}

/** Longest template source; the largest known have 20 KB. UTF-16 units. */
export const chatTemplateLengthMax = 1024 * 1024;
/** Longest rendered chat, in UTF-16 units; the same order as a prompt's limit. */
export const renderedChatLengthMax = 16 * 1024 * 1024;
/** Compiled templates kept; a server has one per model. */
const compiledTemplatesMax = 64;

const compiled = new Map<string, BoundedTemplate>();

/** @throws TokenizerError CHAT_TEMPLATE_INVALID */
function compile(source: string): BoundedTemplate {
  const known = compiled.get(source);
  if (known) return known;
  if (source.length > chatTemplateLengthMax)
    throw new TokenizerError(
      'CHAT_TEMPLATE_INVALID',
      `the chat template is over ${chatTemplateLengthMax} characters`,
    );
  try {
    const template = new BoundedTemplate(source);
    if (compiled.size >= compiledTemplatesMax) compiled.clear();
    compiled.set(source, template);
    return template;
  } catch (cause) {
    throw new TokenizerError(
      'CHAT_TEMPLATE_INVALID',
      `the model's chat template does not parse: ${messageOf(cause)}`,
      {
        cause,
      },
    );
  }
}

/** Content parts of type text become one string: most templates expect one. */
function plainContent(message: ChatMessage, index: number): ChatMessage {
  if (typeof message.role !== 'string' || message.role === '')
    throw new TokenizerError(
      'CHAT_MESSAGE_INVALID',
      `messages[${index}] has no role; give it one, such as 'user'`,
    );
  if (!Array.isArray(message.content)) return { ...message, content: message.content ?? '' };
  const texts = (message.content as readonly ChatContentPart[]).map((part) => {
    if (part?.type === 'text' && typeof part.text === 'string') return part.text;
    throw new TokenizerError(
      'CHAT_MESSAGE_INVALID',
      `messages[${index}]: content parts of type '${part?.type}' are not supported by this model; send text parts`,
    );
  });
  return { ...message, content: texts.join('') };
}

/** Jinja's `strftime_now(format)`, which date-aware templates call. UTC. */
function strftimeNow(format: unknown): string {
  const now = new Date();
  const two = (value: number) => String(value).padStart(2, '0');
  const name = (options: Intl.DateTimeFormatOptions) =>
    new Intl.DateTimeFormat('en-US', { ...options, timeZone: 'UTC' }).format(now);
  const fields: Record<string, string> = {
    Y: String(now.getUTCFullYear()),
    m: two(now.getUTCMonth() + 1),
    d: two(now.getUTCDate()),
    H: two(now.getUTCHours()),
    M: two(now.getUTCMinutes()),
    S: two(now.getUTCSeconds()),
    b: name({ month: 'short' }),
    B: name({ month: 'long' }),
    a: name({ weekday: 'short' }),
    A: name({ weekday: 'long' }),
    '%': '%',
  };
  return String(format).replace(/%(.)/g, (whole, key: string) => fields[key] ?? whole);
}

/**
 * What needs no rendering to be refused. @returns the template
 * @throws TokenizerError CHAT_TEMPLATE_MISSING, CHAT_MESSAGE_INVALID
 */
export function checkChatInput(template: string | undefined, input: ChatInput): string {
  if (!template)
    throw new TokenizerError(
      'CHAT_TEMPLATE_MISSING',
      'this model has no chat template; use /v1/completions with a prompt',
    );
  if (input.messages.length === 0)
    throw new TokenizerError('CHAT_MESSAGE_INVALID', 'messages is empty; send at least one');
  return template;
}

/**
 * Renders a chat with the model's own template. A template comes with the checkpoint, so it is bounded (steps, time, sizes) and reaches
 * nothing but its variables.
 * @throws TokenizerError CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_INVALID, CHAT_TEMPLATE_REJECTED (with the template's own message),
 *   CHAT_MESSAGE_INVALID
 */
export function renderChat(template: string | undefined, input: ChatInput): string {
  const program = compile(checkChatInput(template, input));
  const messages = input.messages.map(plainContent);
  let text: string;
  try {
    text = program.render({
      ...input.extra,
      strftime_now: strftimeNow,
      messages,
      ...(input.tools && input.tools.length > 0 ? { tools: input.tools } : { tools: null }),
      add_generation_prompt: input.addGenerationPrompt,
      bos_token: input.bosToken ?? '',
      eos_token: input.eosToken ?? '',
    });
  } catch (cause) {
    throw new TokenizerError(
      'CHAT_TEMPLATE_REJECTED',
      `the model's chat template refused the messages: ${messageOf(cause)}`,
      {
        cause,
      },
    );
  }
  if (text.length > renderedChatLengthMax)
    throw new TokenizerError(
      'TEXT_TOO_LONG',
      `the rendered chat is over ${renderedChatLengthMax} characters; send fewer messages`,
    );
  return text;
}

/** A chat's input with the special tokens that the vocabulary itself names. */
export function withSpecialTokens(
  tokenizer: Tokenizer,
  input: Omit<ChatInput, 'bosToken' | 'eosToken'>,
): ChatInput {
  const special = (id: number | undefined) => (id === undefined ? undefined : tokenizer.token(id));
  return { ...input, bosToken: special(tokenizer.bosTokenId), eosToken: special(tokenizer.eosTokenId) };
}

/**
 * {@link renderChat} with the special tokens that the vocabulary itself names. The text already holds a BOS where the template writes
 * one: encode it with `addSpecialTokens: false`.
 * @param template default: the tokenizer's own
 * @throws TokenizerError CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_INVALID, CHAT_TEMPLATE_REJECTED
 */
export function renderChatFor(
  tokenizer: Tokenizer,
  template: string | undefined,
  input: Omit<ChatInput, 'bosToken' | 'eosToken'>,
): string {
  return renderChat(template ?? tokenizer.chatTemplate, withSpecialTokens(tokenizer, input));
}

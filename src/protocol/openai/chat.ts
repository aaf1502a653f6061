import type { FastifyReply, FastifyRequest } from 'fastify';
import { type ChatMessage, renderChatFor } from '../../tokenizer/chat-template.ts';
import { ProtocolError } from '../errors.ts';
import type { ServedModel } from '../served-model.ts';
import { type AnswerPlan, answer, type OpenAiContext } from './answering.ts';
import { checkResponseFormat, generationInput, usageReports } from './parameters.ts';
import { refuseUnsupported, unsupported } from './refused-fields.ts';
import { type ChatCompletionRequest, chatCompletionRequest, parseRequest } from './requests.ts';

/** POST /v1/chat/completions */
export async function handleChat(
  context: OpenAiContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const body = parseRequest(chatCompletionRequest, request.body);
  refuseUnsupported(body, 'chat');
  const model = context.models.resolve(body.model ?? undefined);
  return answer(context, request, reply, await planChat(context, body, model));
}

async function planChat(
  context: OpenAiContext,
  body: ChatCompletionRequest,
  model: ServedModel,
): Promise<AnswerPlan> {
  checkResponseFormat(body.response_format);
  const usageWanted = usageReports(body);
  const logprobs = logprobsOf(body);
  const promptTokens = await encodeChat(body, model);
  const limits = {
    requested: body.max_completion_tokens ?? body.max_tokens ?? undefined,
    parameter: body.max_completion_tokens ? 'max_completion_tokens' : 'max_tokens',
    promptParameter: 'messages',
  };
  const input = generationInput(body, model, promptTokens, limits);
  input.logprobs = logprobs;
  const choices = body.n ?? 1;
  return {
    kind: 'chat',
    stream: body.stream ?? false,
    inputs: [input],
    settings: {
      id: `chatcmpl-${context.nextId()}`,
      createdSeconds: Math.floor(context.clock.wallMs() / 1000),
      modelName: body.model ?? model.name,
      model,
      choicesPerPrompt: choices,
      sequencesPerPrompt: choices,
      prompts: [promptTokens],
      logprobs,
      returnTokenIds: body.return_token_ids ?? false,
      ...usageWanted,
      echo: body.echo ? [lastAssistantText(body)] : undefined,
      skipSpecialTokens: input.skipSpecialTokens,
      promptOnly: false,
    },
  };
}

function logprobsOf(body: ChatCompletionRequest): number | undefined {
  if (body.logprobs) return body.top_logprobs ?? 0;
  if (body.top_logprobs) {
    const message = 'top_logprobs needs logprobs: true';
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'top_logprobs' });
  }
  return undefined;
}

/** The fields that a chat's prompt is made of; /tokenize has them too. */
export type ChatPromptFields = Pick<
  ChatCompletionRequest,
  'messages' | 'tools' | 'tool_choice' | 'chat_template_kwargs' | 'add_generation_prompt' | 'reasoning_effort'
>;

/**
 * A chat's prompt through the model's template, as tokens.
 * @throws ProtocolError PARAMETER_INVALID, PARAMETER_UNSUPPORTED; TokenizerError CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_REJECTED
 */
export async function encodeChat(fields: ChatPromptFields, model: ServedModel): Promise<Int32Array> {
  const { tokenizer } = model;
  const extra: Record<string, unknown> = { ...fields.chat_template_kwargs };
  if (fields.reasoning_effort) extra.reasoning_effort = fields.reasoning_effort;
  const text = renderChatFor(tokenizer, model.chatTemplate, {
    messages: fields.messages.map(templateMessage),
    tools: toolsOf(fields),
    addGenerationPrompt: fields.add_generation_prompt ?? true,
    extra,
  });
  // The template wrote the special tokens itself.
  return model.encode(text, { addSpecialTokens: false });
}

function toolsOf({ tools, tool_choice }: ChatPromptFields): readonly unknown[] | undefined {
  if (tool_choice === 'none') return undefined;
  if (tool_choice && tool_choice !== 'auto') {
    const message = "only tool_choice 'none' and 'auto' are supported: a call cannot be forced yet";
    throw unsupported('tool_choice', message);
  }
  return tools ?? undefined;
}

/** A message as templates expect it: `developer` is the newer name of `system`, and tool arguments are objects rather than JSON text. */
function templateMessage(message: ChatCompletionRequest['messages'][number], index: number): ChatMessage {
  const { tool_calls: calls, ...rest } = message;
  const role = message.role === 'developer' ? 'system' : message.role;
  const content = Array.isArray(rest.content) ? rest.content.map(plainPart) : rest.content;
  if (!calls || calls.length === 0) return { ...rest, role, content };
  const toolCalls = calls.map((call, callIndex) => ({
    ...call,
    function: {
      ...call.function,
      arguments: parsedArguments(call.function.arguments, `messages[${index}].tool_calls[${callIndex}]`),
    },
  }));
  return { ...rest, role, content, tool_calls: toolCalls };
}

/** A refusal of an earlier answer reads as text. */
function plainPart(part: { type: string; text?: string }): { type: string; text?: string } {
  if (part.type !== 'refusal') return part;
  return { type: 'text', text: String((part as { refusal?: unknown }).refusal ?? '') };
}

function parsedArguments(text: string, path: string): unknown {
  if (text.trim() === '') return {};
  try {
    return JSON.parse(text);
  } catch (cause) {
    const parameter = `${path}.function.arguments`;
    throw new ProtocolError('PARAMETER_INVALID', `${parameter} is not valid JSON`, { parameter, cause });
  }
}

/** vLLM's `echo`: the answer repeats the assistant message that it goes on with. */
function lastAssistantText(body: ChatCompletionRequest): string {
  const last = body.messages.at(-1);
  if (last?.role !== 'assistant' || body.add_generation_prompt !== false) {
    const message = 'echo repeats a last assistant message; it needs one, and add_generation_prompt: false';
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'echo' });
  }
  if (typeof last.content === 'string') return last.content;
  return (last.content ?? []).map((part) => part.text ?? '').join('');
}

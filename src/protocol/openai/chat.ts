import type { FastifyReply, FastifyRequest } from 'fastify';
import { predictionTokensMax } from '../../runtime/requests/validate.ts';
import type { ChatMessage } from '../../tokenizer/chat-template.ts';
import { answerReading } from '../answer-parser.ts';
import { type AnswerPlan, answer } from '../answering.ts';
import { type ChatPrompt, encodePrompt, plainText, renderPrompt } from '../chat-prompt.ts';
import { clientGone } from '../client-gone.ts';
import { ProtocolError } from '../errors.ts';
import { answerGuide, formatsFor } from '../guided-answer.ts';
import type { ServedModel, TextOptions } from '../served-model.ts';
import { callChoice } from '../tool-choice.ts';
import { parseRequest } from '../validation.ts';
import { bansOf } from './bans.ts';
import { beamsOf } from './beams.ts';
import type { OpenAiContext } from './context.ts';
import { encodableTokens, generationInput, promptLogprobsOf, truncated, usageReports } from './parameters.ts';
import { answerPlan } from './plan.ts';
import { refuseUnsupported, unsupported } from './refused-fields.ts';
import { type ChatCompletionRequest, chatCompletionRequest, tokenFields } from './requests.ts';

/** POST /v1/chat/completions */
export async function handleChat(
  context: OpenAiContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const body = parseRequest(chatCompletionRequest, request.body, tokenFields);
  refuseUnsupported(body, 'chat');
  const model = context.models.resolve(body.model ?? undefined);
  const warn = (warning: string): void => {
    request.exchange.log.warning = warning;
  };
  const plan = await planChat(context, body, model, warn, clientGone(reply.raw));
  return answer(context, request, reply, plan);
}

async function planChat(
  context: OpenAiContext,
  body: ChatCompletionRequest,
  model: ServedModel,
  warn: (warning: string) => void,
  signal: AbortSignal,
): Promise<AnswerPlan> {
  const usageWanted = usageReports(body);
  const logprobs = logprobsOf(body);
  const promptLogprobs = promptLogprobsOf(body);
  const choice = callChoice({
    functions: (body.tools ?? []).map((tool) => tool.function),
    choice: body.tool_choice,
    isParallel: body.parallel_tool_calls ?? true,
  });
  const formats = await formatsFor(model, choice);
  const tokensMax = encodableTokens(body.truncate_prompt_tokens);
  const prompt = await encodeChat(context, body, model, { tokensMax, signal });
  if (prompt.warning) warn(prompt.warning);
  const requested = body.max_completion_tokens ?? body.max_tokens ?? undefined;
  const promptTokens = truncated(prompt.tokens, body.truncate_prompt_tokens, requested, model);
  const limits = {
    requested,
    parameter: body.max_completion_tokens ? 'max_completion_tokens' : 'max_tokens',
    promptParameter: 'messages',
  };
  const input = generationInput(body, model, promptTokens, limits, await bansOf(body, model, signal));
  input.logprobs = logprobs;
  input.promptLogprobs = promptLogprobs;
  input.beams = beamsOf(body, body.n ?? 1);
  input.prediction = await predictionOf(body, model, signal);
  const reading = answerReading(formats, prompt.text, {
    tools: new Map((toolsOf(body) ?? []).map((tool) => [tool.function.name, tool.function.parameters])),
    isParallel: choice.isParallel,
  });
  input.guide = answerGuide(formats, model, prompt.text, { ...choice, guide: input.guide });
  if (reading?.keepsSpecialTokens) input.skipSpecialTokens = false;
  const choices = body.n ?? 1;
  return answerPlan('chat', body.stream ?? false, [input], {
    id: `chatcmpl-${context.nextId()}`,
    createdSeconds: Math.floor(context.clock.wallMs() / 1000),
    modelName: body.model ?? model.name,
    model,
    choicesPerPrompt: choices,
    sequencesPerPrompt: choices,
    prompts: [promptTokens],
    logprobs,
    promptLogprobs,
    reading,
    includeReasoning: body.include_reasoning ?? true,
    returnTokenIds: body.return_token_ids ?? false,
    ...usageWanted,
    echo: body.echo ? [lastAssistantText(body)] : undefined,
    skipSpecialTokens: input.skipSpecialTokens,
    promptOnly: false,
  });
}

/** OpenAI's `prediction`: a text that the answer may repeat, and then is made faster. */
async function predictionOf(
  { prediction }: ChatCompletionRequest,
  model: ServedModel,
  signal: AbortSignal,
): Promise<Int32Array | undefined> {
  const text = plainText(prediction ? { role: 'assistant', content: prediction.content } : undefined);
  if (text === '') return undefined;
  const tokens = await model.encode(text, { addSpecialTokens: false, signal });
  return tokens.subarray(0, predictionTokensMax);
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
  | 'messages'
  | 'tools'
  | 'tool_choice'
  | 'chat_template'
  | 'chat_template_kwargs'
  | 'add_generation_prompt'
  | 'continue_final_message'
  | 'reasoning_effort'
>;

/**
 * A chat's prompt through the model's template, as tokens.
 * @throws ProtocolError PARAMETER_INVALID, PARAMETER_UNSUPPORTED; TokenizerError CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_REJECTED
 */
export async function encodeChat(
  context: OpenAiContext,
  fields: ChatPromptFields,
  model: ServedModel,
  options: TextOptions,
): Promise<ChatPrompt & { tokens: Int32Array }> {
  const variables: Record<string, unknown> = { ...fields.chat_template_kwargs };
  if (fields.reasoning_effort) variables.reasoning_effort = fields.reasoning_effort;
  const continueFinalMessage = fields.continue_final_message ?? false;
  if (continueFinalMessage && fields.add_generation_prompt) {
    const message =
      'continue_final_message goes on with the last message: it needs add_generation_prompt: false';
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'continue_final_message' });
  }
  const prompt = await renderPrompt(
    {
      messages: fields.messages.map(templateMessage),
      tools: toolsOf(fields),
      addGenerationPrompt: fields.add_generation_prompt ?? !continueFinalMessage,
      continueFinalMessage,
      chatTemplate: templateOf(context, fields),
      variables,
    },
    model,
    options.signal,
  );
  return { ...prompt, tokens: await encodePrompt(prompt.text, model, options) };
}

/** @throws ProtocolError PARAMETER_UNSUPPORTED: a template is a program, so the operator has to allow it */
function templateOf(context: OpenAiContext, { chat_template }: ChatPromptFields): string | undefined {
  if (chat_template === null || chat_template === undefined) return undefined;
  if (context.trustRequestChatTemplate) return chat_template;
  const message =
    "'chat_template' is not taken from requests by this server; it would be with --trust-request-chat-template";
  throw unsupported('chat_template', message);
}

function toolsOf({
  tools,
  tool_choice,
}: ChatPromptFields): (ChatCompletionRequest['tools'] & {}) | undefined {
  return tool_choice === 'none' ? undefined : (tools ?? undefined);
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
  const isContinued = body.add_generation_prompt === false || body.continue_final_message === true;
  if (last?.role !== 'assistant' || !isContinued) {
    const message =
      'echo repeats a last assistant message; it needs one, and continue_final_message: true or add_generation_prompt: false';
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'echo' });
  }
  return plainText(last as ChatMessage);
}

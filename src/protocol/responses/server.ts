import { createHash } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Guide } from '../../runtime/guidance/guide.ts';
import { answerReading } from '../answer-parser.ts';
import { type AnswerPlan, answer } from '../answering.ts';
import { type ApiContext, type ApiOptions, apiContext, guardApi } from '../api.ts';
import { type ChatPrompt, encodePrompt, functionTool, renderPrompt } from '../chat-prompt.ts';
import { clientGone } from '../client-gone.ts';
import { ProtocolError } from '../errors.ts';
import { EventAnswer } from '../event-answer.ts';
import { samplingOf, textGeneration } from '../generation-input.ts';
import { answerGuide, formatsFor } from '../guided-answer.ts';
import { guideFor } from '../guides.ts';
import type { ErrorWording } from '../http-server.ts';
import type { ServedModel } from '../served-model.ts';
import { maxTokensOf } from '../token-limit.ts';
import { callChoice } from '../tool-choice.ts';
import { parseRequest } from '../validation.ts';
import { chatMessages, inputItems } from './items.ts';
import { type InputItem, type ResponseRequest, responseRequest } from './requests.ts';
import { type ResponseSettings, WholeResponse } from './responses.ts';
import { type ResponseStorage, ResponseStore, type StoredResponse } from './store.ts';
import { StreamedResponse } from './stream.ts';

/** OpenAI's defaults where neither the request nor the checkpoint says. */
const defaultTemperature = 1;

interface ResponsesContext extends ApiContext {
  store: ResponseStorage;
  errorResponse: ErrorWording;
}

/** What the Responses API is served with. */
export interface ResponsesOptions extends ApiOptions {
  /** Where responses are kept. Default: in this process. */
  responses?: ResponseStorage;
}

/**
 * Adds OpenAI's Responses API (`/v1/responses`) to an app that words errors as OpenAI does.
 * @param errorResponse that wording
 */
export function addResponses(
  app: FastifyInstance,
  options: ResponsesOptions,
  errorResponse: ErrorWording,
): void {
  const shared = apiContext(options);
  const store = options.responses ?? new ResponseStore(shared.clock);
  const context: ResponsesContext = { ...shared, store, errorResponse };
  void app.register(async (api) => {
    guardApi(api, options);
    api.post('/v1/responses', (request, reply) => handleCreate(context, request, reply));
    api.get('/v1/responses/:id', async (request) => (await found(context, request)).response);
    api.get('/v1/responses/:id/input_items', async (request) => {
      const data = [...(await found(context, request)).input].reverse();
      return { object: 'list', data, has_more: false };
    });
    api.delete('/v1/responses/:id', async (request) => {
      const { id } = (await found(context, request)).response;
      await context.store.delete(id, ownerOf(request));
      return { id, object: 'response', deleted: true };
    });
  });
}

/** A digest of the key, so that the store holds none; '' without one. */
function ownerOf({ headers }: FastifyRequest): string {
  return headers.authorization ? createHash('sha256').update(headers.authorization).digest('base64') : '';
}

async function found(context: ResponsesContext, request: FastifyRequest): Promise<StoredResponse> {
  const { id } = request.params as { id: string };
  const stored = await context.store.get(id, ownerOf(request));
  if (stored) return stored;
  const message = `there is no response '${id.slice(0, 100)}' here: it was not stored, or is forgotten`;
  throw new ProtocolError('RESPONSE_NOT_FOUND', message, { parameter: 'response_id' });
}

async function handleCreate(
  context: ResponsesContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const body = parseRequest(responseRequest, request.body);
  refuseUnsupported(body);
  const model = context.models.resolve(body.model ?? undefined);
  const owner = ownerOf(request);
  const input = inputItems(body.input);
  const conversation = [...(await earlierItems(context, body, owner)), ...input];
  const plan = await planResponse(context, body, model, conversation, {
    keep: (response) => {
      if (body.store ?? true) context.store.put({ response, input, conversation, owner });
    },
    warn: (warning) => {
      request.exchange.log.warning = warning;
    },
    signal: clientGone(reply.raw),
  });
  return answer(context, request, reply, plan);
}

/** The items of the responses before this one. @throws ProtocolError PREVIOUS_RESPONSE_NOT_FOUND */
async function earlierItems(
  context: ResponsesContext,
  body: ResponseRequest,
  owner: string,
): Promise<readonly InputItem[]> {
  const id = body.previous_response_id;
  if (id === null || id === undefined) return [];
  const stored = await context.store.get(id, owner);
  if (stored) return [...stored.conversation, ...(stored.response.output as readonly InputItem[])];
  const message = `previous response '${id.slice(0, 100)}' not found: it was not stored, or is forgotten; send the whole conversation as input`;
  throw new ProtocolError('PREVIOUS_RESPONSE_NOT_FOUND', message, { parameter: 'previous_response_id' });
}

function refuseUnsupported(body: ResponseRequest): void {
  const refuse = (parameter: string, message: string): never => {
    throw new ProtocolError('PARAMETER_UNSUPPORTED', message, { parameter });
  };
  if (body.background) refuse('background', 'responses in the background are not supported; stream instead');
  if (body.top_logprobs)
    refuse('top_logprobs', 'log-probabilities are not supported here; use /v1/chat/completions');
  if (body.include?.includes('message.output_text.logprobs')) {
    refuse('include', 'log-probabilities are not supported here; use /v1/chat/completions');
  }
}

/** `text.format`: unlike in chats, a schema's fields stand beside its type. @throws ProtocolError PARAMETER_INVALID, PARAMETER_UNSUPPORTED */
function textGuide(format: NonNullable<ResponseRequest['text']>['format']): Guide | undefined {
  const parameter = 'text.format';
  switch (format?.type ?? 'text') {
    case 'text':
      return undefined;
    case 'json_object':
      return guideFor({ kind: 'json_object' }, parameter);
    case 'json_schema':
      return guideFor(
        { kind: 'json_schema', schema: format?.schema, isLenient: format?.strict !== true },
        parameter,
      );
    default: {
      const message = `text.format '${format?.type.slice(0, 40)}' is not supported; text, json_object and json_schema are`;
      throw new ProtocolError('PARAMETER_UNSUPPORTED', message, { parameter });
    }
  }
}

interface PlanEvents {
  keep: ResponseSettings['onDone'];
  warn(warning: string): void;
  /** The client left. */
  signal: AbortSignal;
}

type Tools = NonNullable<ResponseRequest['tools']>;

function promptOf(
  body: ResponseRequest,
  model: ServedModel,
  conversation: readonly InputItem[],
  tools: Tools,
  signal: AbortSignal,
): Promise<ChatPrompt> {
  const messages = chatMessages(conversation);
  if (body.instructions) messages.unshift({ role: 'system', content: body.instructions });
  return renderPrompt(
    {
      messages,
      tools: tools.map((tool) => functionTool(tool.name, tool.description, tool.parameters)),
      addGenerationPrompt: true,
      variables: body.reasoning?.effort ? { reasoning_effort: body.reasoning.effort } : {},
    },
    model,
    signal,
  );
}

async function planResponse(
  context: ResponsesContext,
  body: ResponseRequest,
  model: ServedModel,
  conversation: readonly InputItem[],
  events: PlanEvents,
): Promise<AnswerPlan> {
  const tools = body.tool_choice === 'none' ? [] : (body.tools ?? []);
  const guide = textGuide(body.text?.format);
  const choice = callChoice({
    functions: tools.map(({ name, parameters, strict }) => ({ name: String(name), parameters, strict })),
    choice: body.tool_choice,
    isParallel: body.parallel_tool_calls ?? true,
  });
  const formats = await formatsFor(model, choice);
  const prompt = await promptOf(body, model, conversation, tools, events.signal);
  if (prompt.warning) events.warn(prompt.warning);
  const promptTokens = await encodePrompt(prompt.text, model, { signal: events.signal });
  const reading = answerReading(formats, prompt.text, {
    tools: new Map(tools.map((tool) => [String(tool.name), tool.parameters])),
    isParallel: choice.isParallel,
  });
  const sampling = samplingOf(
    {
      temperature: body.temperature,
      topP: body.top_p,
      topK: body.top_k,
      seed: body.seed,
    },
    model,
    defaultTemperature,
  );
  const limits = {
    requested: body.max_output_tokens ?? undefined,
    parameter: 'max_output_tokens',
    promptParameter: 'input',
  };
  const stop = body.stop ?? [];
  const input = textGeneration({
    promptTokens,
    sampling,
    maxTokens: maxTokensOf(limits, promptTokens.length, model),
    stopStrings: typeof stop === 'string' ? [stop] : stop,
    skipSpecialTokens: !reading?.keepsSpecialTokens,
    guide: answerGuide(formats, model, prompt.text, { ...choice, guide }),
  });
  const settings: ResponseSettings = {
    id: `resp_${context.nextId()}`,
    createdSeconds: Math.floor(context.clock.wallMs() / 1000),
    request: body,
    model,
    reading,
    temperature: sampling.temperature,
    topP: sampling.topP,
    onDone: events.keep,
  };
  return {
    model,
    id: settings.id,
    inputs: [input],
    stream: body.stream ?? false,
    gathered: () => new WholeResponse(settings),
    streamed: (stream, response, onOver) =>
      new StreamedResponse(settings, new EventAnswer(stream, response, context.errorResponse, onOver)),
  };
}

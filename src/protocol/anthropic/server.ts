import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Guide } from '../../runtime/guidance/guide.ts';
import { answerReading } from '../answer-parser.ts';
import { type AnswerPlan, answer } from '../answering.ts';
import { type ApiContext, type ApiOptions, apiContext, guardApi } from '../api.ts';
import { clientGone } from '../client-gone.ts';
import { ProtocolError } from '../errors.ts';
import { EventAnswer } from '../event-answer.ts';
import { samplingOf, textGeneration } from '../generation-input.ts';
import { type AnswerWish, answerGuide, type CallChoice, formatsFor } from '../guided-answer.ts';
import { guideFor } from '../guides.ts';
import { wordErrors } from '../http-server.ts';
import { truncatedTokensMax } from '../limits.ts';
import type { ServedModel } from '../served-model.ts';
import { maxTokensOf } from '../token-limit.ts';
import { callChoice } from '../tool-choice.ts';
import { parseRequest } from '../validation.ts';
import { errorResponse } from './errors.ts';
import { encodeMessages, toolsOf } from './prompt.ts';
import { countTokensRequest, type MessagesRequest, messagesRequest, type PromptFields } from './requests.ts';
import { type MessageSettings, WholeMessage } from './responses.ts';
import { StreamedMessage } from './stream.ts';

/** Where the routes are; what fails below it is worded as Anthropic does. */
export const messagesPath = '/v1/messages';

/** Anthropic's default where neither the request nor the checkpoint says. */
const defaultTemperature = 1;

/** Adds Anthropic's Messages API to an app. Its clients send their key as `x-api-key`. */
export function addMessages(app: FastifyInstance, options: ApiOptions): void {
  const context = apiContext(options);
  void app.register(
    async (api) => {
      wordErrors(api, errorResponse);
      guardApi(api, options);
      api.post('', (request, reply) => handleMessages(context, request, reply));
      api.post('/count_tokens', async (request, reply) => {
        const body = parseRequest(countTokensRequest, request.body);
        choiceOf(body);
        const model = context.models.resolve(body.model ?? undefined);
        const options = { tokensMax: truncatedTokensMax, signal: clientGone(reply.raw) };
        const { tokens } = await encodeMessages(body, model, options);
        return { input_tokens: tokens.length };
      });
    },
    { prefix: messagesPath },
  );
}

async function handleMessages(
  context: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const body = parseRequest(messagesRequest, request.body);
  const model = context.models.resolve(body.model ?? undefined);
  const choice = choiceOf(body);
  const guide = outputGuide(body);
  const formats = await formatsFor(model, choice);
  const prompt = await encodeMessages(body, model, { signal: clientGone(reply.raw) });
  if (prompt.warning) request.exchange.log.warning = prompt.warning;
  return answer(
    context,
    request,
    reply,
    planMessage(context, body, { ...model, formats }, prompt, { ...choice, guide }),
  );
}

/** Which tools may be called: `any` of them must be, or one that is named. @throws ProtocolError PARAMETER_INVALID */
function choiceOf(fields: PromptFields): CallChoice {
  const { tool_choice: choice } = fields;
  const named = { type: 'function', name: choice?.name };
  return callChoice({
    functions: toolsOf(fields).map(({ name, input_schema, strict }) => ({
      name,
      parameters: input_schema,
      strict,
    })),
    choice: choice?.type === 'any' ? 'required' : choice?.type === 'tool' ? named : undefined,
    isParallel: !choice?.disable_parallel_tool_use,
  });
}

/** What the text must be: `output_config.format`, once the beta `output_format`. @throws ProtocolError PARAMETER_INVALID, PARAMETER_UNSUPPORTED */
function outputGuide({ output_config, output_format }: MessagesRequest): Guide | undefined {
  const format = output_config?.format ?? output_format;
  const parameter = output_config?.format ? 'output_config.format' : 'output_format';
  if (!format) return undefined;
  if (format.type === 'json_schema')
    return guideFor({ kind: 'json_schema', schema: format.schema }, parameter);
  const message = `${parameter} '${format.type.slice(0, 40)}' is not supported; json_schema is`;
  throw new ProtocolError('PARAMETER_UNSUPPORTED', message, { parameter });
}

function planMessage(
  context: ApiContext,
  body: MessagesRequest,
  model: ServedModel,
  prompt: { text: string; tokens: Int32Array },
  wish: AnswerWish,
): AnswerPlan {
  const reading = answerReading(model.formats, prompt.text, {
    tools: new Map(toolsOf(body).map((tool) => [tool.name, tool.input_schema])),
    isParallel: wish.isParallel,
  });
  const wanted = { temperature: body.temperature, topP: body.top_p, topK: body.top_k };
  // Clients must say a limit, and most say one larger than small models' contexts: it is a bound and no wish.
  const limits = {
    requested: undefined,
    parameter: 'max_tokens',
    promptParameter: 'messages',
    fallback: body.max_tokens,
  };
  const input = textGeneration({
    promptTokens: prompt.tokens,
    sampling: samplingOf(wanted, model, defaultTemperature),
    maxTokens: maxTokensOf(limits, prompt.tokens.length, model),
    stopStrings: body.stop_sequences ?? [],
    skipSpecialTokens: !reading?.keepsSpecialTokens,
    guide: answerGuide(model.formats, model, prompt.text, wish),
  });
  const settings: MessageSettings = {
    id: `msg_${context.nextId()}`,
    modelName: body.model ?? model.name,
    reading,
  };
  return {
    model,
    id: settings.id,
    inputs: [input],
    stream: body.stream ?? false,
    gathered: () => new WholeMessage(settings),
    streamed: (stream, response, onOver) =>
      new StreamedMessage(
        settings,
        prompt.tokens.length,
        new EventAnswer(stream, response, errorResponse, onOver),
      ),
  };
}

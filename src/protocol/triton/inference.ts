import type { FastifyReply, FastifyRequest } from 'fastify';
import { RepositoryError, toRepositoryError } from '../../repository/errors.ts';
import type { InferRequest, InferResponse, Model } from '../../repository/model.ts';
import { acceptedEncoding, compressed, decompressed } from './compression.ts';
import type { TritonContext } from './context.ts';
import { errorBody, httpStatus } from './errors.ts';
import { parseGenerateBody } from './generate.ts';
import { wireOutputs } from './outputs.ts';
import { chargedTo, type ParsedRequest, parseInferBody } from './requests.ts';
import { generateJson, type HttpAnswer, inferAnswer, jsonType, textType } from './responses.ts';
import { streamGenerated } from './stream.ts';

/** One inference request over HTTP. */
export interface InferenceCall {
  context: TritonContext;
  request: FastifyRequest;
  reply: FastifyReply;
  modelName: string;
  /** '': the one that the model's policy picks. */
  version: string;
  bodyBytesMax: number;
}

const decoupledRefusal = "HTTP end point doesn't support models with decoupled transaction policy";
const generateRefusal =
  'generate expects model to produce exactly 1 response, use generate stream for model that generates various number of responses';

/** POST …/infer */
export async function handleInfer(call: InferenceCall): Promise<HttpAnswer> {
  // tritonserver's errors carry another content type before it has parsed a request, and after the model has taken it.
  let contentType = textType;
  try {
    const { context, request } = call;
    const model = context.repository.model(call.modelName, call.version);
    if (model.isDecoupled) throw new RepositoryError('UNSUPPORTED', decoupledRefusal);
    const body = await decompressed(bodyOf(request), request.headers['content-encoding'], call.bodyBytesMax);
    const headerLength = jsonLength(request, body.length);
    contentType = jsonType;
    const parsed = parseInferBody(body, headerLength, model, context.sharedMemory);
    const pending = responsesOf(call, model, parsed.request, 1);
    contentType = textType;
    const [response] = await pending;
    return await packed(call, inferResponse(call, model, parsed, response));
  } catch (thrown) {
    return errorAnswer(thrown, contentType);
  }
}

/** POST …/generate: exactly one response, in JSON by names. */
export async function handleGenerate(call: InferenceCall): Promise<HttpAnswer> {
  let parsed: ParsedRequest;
  let model: Model;
  let pending: Promise<InferResponse[]>;
  try {
    ({ model, parsed } = prepareGenerate(call));
    pending = responsesOf(call, model, parsed.request, 2);
  } catch (thrown) {
    return errorAnswer(thrown, jsonType);
  }
  const responses = await pending;
  const [response] = responses;
  if (responses.length !== 1 || !response) {
    // The status is tritonserver's, which has sent it by then.
    return { status: 200, contentType: jsonType, body: errorBody(generateRefusal) };
  }
  // So is this one, whatever the error.
  if (response.error) return errorAnswer(response.error, jsonType, 400);
  try {
    return { status: 200, contentType: jsonType, body: generatedJson(call, model, parsed, response) };
  } catch (thrown) {
    return errorAnswer(thrown, jsonType);
  }
}

/** POST …/generate_stream: answers by itself once the request has been taken. */
export async function handleGenerateStream(call: InferenceCall): Promise<HttpAnswer | undefined> {
  try {
    const { model, parsed } = prepareGenerate(call);
    streamGenerated(
      call,
      (listener) => model.infer(chargedTo(call.request.exchange.key, parsed.request), listener),
      (response) => generatedJson(call, model, parsed, response),
    );
    return undefined;
  } catch (thrown) {
    return errorAnswer(thrown, jsonType);
  }
}

function prepareGenerate({ context, request, modelName, version }: InferenceCall): {
  model: Model;
  parsed: ParsedRequest;
} {
  const model = context.repository.model(modelName, version);
  const encoding = request.headers['content-encoding'];
  if (encoding !== undefined && encoding !== '' && encoding !== 'identity') {
    const message = "Unsupported content-encoding, only 'identity' is supported.";
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  return { model, parsed: parseGenerateBody(bodyOf(request), model) };
}

/** Runs a request; resolves with its responses, or with the first `max` of them (the rest is cancelled then). Refusals are thrown. */
function responsesOf(
  call: InferenceCall,
  model: Model,
  request: InferRequest,
  max: number,
): Promise<InferResponse[]> {
  const responses: InferResponse[] = [];
  let done: (responses: InferResponse[]) => void = () => {};
  const pending = new Promise<InferResponse[]>((resolve) => {
    done = resolve;
  });
  let isEnough = false;
  const inference = model.infer(chargedTo(call.request.exchange.key, request), {
    respond: (response, isFinal) => {
      if (response) responses.push(response);
      isEnough = responses.length >= max;
      if (isFinal || isEnough) done(responses);
    },
  });
  if (isEnough) inference.cancel();
  const { raw } = call.reply;
  const onClose = (): void => {
    inference.cancel();
    done([]);
  };
  raw.once('close', onClose);
  return pending.finally(() => {
    raw.off('close', onClose);
    // Harmless where all is answered.
    inference.cancel();
  });
}

function inferResponse(
  { context }: InferenceCall,
  model: Model,
  { request, wishes, defaultIsBinary }: ParsedRequest,
  response: InferResponse | undefined,
): HttpAnswer {
  if (response?.error) throw response.error;
  const outputs = wireOutputs(response?.outputs ?? [], wishes, defaultIsBinary, model, context.sharedMemory);
  const names = { id: request.id, modelName: model.name, modelVersion: model.version };
  return inferAnswer(names, outputs, response?.parameters);
}

function generatedJson(
  { context }: InferenceCall,
  model: Model,
  parsed: ParsedRequest,
  response: InferResponse,
): string {
  const outputs = wireOutputs(response.outputs, parsed.wishes, false, model, context.sharedMemory);
  const names = { id: parsed.request.id, modelName: model.name, modelVersion: model.version };
  return generateJson(names, outputs, response.parameters);
}

async function packed({ request }: InferenceCall, answer: HttpAnswer): Promise<HttpAnswer> {
  const encoding = acceptedEncoding(request.headers['accept-encoding'] as string | undefined);
  if (!encoding) return answer;
  return { ...answer, body: await compressed(answer.body, encoding), encoding };
}

function bodyOf(request: FastifyRequest): Buffer {
  return Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
}

/** How much of the body is JSON. No header: all of it. A header that is no number counts as 0, as C's `atoi` has it. */
function jsonLength(request: FastifyRequest, bodyLength: number): number {
  const header = request.headers['inference-header-content-length'] as string | undefined;
  if (header === undefined) return bodyLength;
  const length = Number.parseInt(header, 10) || 0;
  if (length >= 0 && length <= bodyLength) return length;
  const message = `inference header size should be in range (0, ${bodyLength}), got: ${length}`;
  throw new RepositoryError('INVALID_ARGUMENT', message);
}

function errorAnswer(thrown: unknown, contentType: string, status?: number): HttpAnswer {
  const error = toRepositoryError(thrown);
  return { status: status ?? httpStatus(error), contentType, body: errorBody(error.message) };
}

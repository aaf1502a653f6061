import type { FastifyReply, FastifyRequest } from 'fastify';
import type { GenerationUsage } from '../../generation/generation.ts';
import { embeddingOf } from '../../generation/vectors.ts';
import { answer } from '../answering.ts';
import { clientGone } from '../client-gone.ts';
import { ProtocolError } from '../errors.ts';
import { answerBytesMax } from '../limits.ts';
import type { ServedModel } from '../served-model.ts';
import { parseRequest } from '../validation.ts';
import type { OpenAiContext } from './context.ts';
import { type EmbeddingInput, embeddingPlan, encodeInputs } from './embedding-plan.ts';
import { type EmbeddingRequest, embeddingRequest } from './embedding-requests.ts';
import { tokenFields } from './requests.ts';

/** Digits that tell any two float32 values apart. */
const floatDigits = 9;
/** Bytes that a value takes in an answer. */
const valueBytes = { float: 13, base64: 16 / 3 } as const;

/** POST /v1/embeddings, as OpenAI has it, with vLLM's extensions. */
export async function handleEmbeddings(
  context: OpenAiContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const body = parseRequest(embeddingRequest, request.body, tokenFields);
  const model = context.models.resolve(body.model ?? undefined);
  const inputs = inputsOf(body.input);
  const dimensions = dimensionsOf(body, inputs.length, model);
  const prompts = await encodeInputs(inputs, 'input', body, model, clientGone(reply.raw));
  const normalize = body.normalize ?? true;
  const write = body.encoding_format === 'base64' ? base64Of : floatsOf;
  const made = (pooled: Float32Array) => write(embeddingOf(pooled, dimensions, normalize));
  const modelName = body.model ?? model.name;
  const word = (embeddings: readonly string[], usage: GenerationUsage) =>
    Buffer.from(bodyText(embeddings, modelName, usage));
  void reply.type('application/json; charset=utf-8');
  const plan = embeddingPlan(`embd-${context.nextId()}`, model, prompts, body, made, word);
  return answer(context, request, reply, plan);
}

function inputsOf(input: EmbeddingRequest['input']): readonly EmbeddingInput[] {
  if (typeof input === 'string') return [input];
  return typeof input[0] === 'number' ? [input as number[]] : (input as EmbeddingInput[]);
}

/**
 * How many dimensions each embedding is to have; undefined for all.
 * @throws ProtocolError PARAMETER_INVALID, ANSWER_TOO_LARGE
 */
function dimensionsOf(body: EmbeddingRequest, inputs: number, model: ServedModel): number | undefined {
  const { hiddenWidth } = model.client.description;
  const dimensions = body.dimensions ?? undefined;
  if (dimensions !== undefined && hiddenWidth > 0 && dimensions > hiddenWidth) {
    const message = `dimensions is ${dimensions}, but embeddings of '${model.name}' have ${hiddenWidth}; ask for at most so many`;
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'dimensions' });
  }
  const format = body.encoding_format ?? 'float';
  const bytes = inputs * (dimensions ?? hiddenWidth) * valueBytes[format];
  if (bytes <= answerBytesMax) return dimensions;
  const problem = `${inputs} embeddings of ${dimensions ?? hiddenWidth} dimensions are more than one answer holds`;
  const advice = format === 'float' ? "send fewer inputs, or encoding_format 'base64'" : 'send fewer inputs';
  throw new ProtocolError('ANSWER_TOO_LARGE', `${problem}; ${advice}`, { parameter: 'input' });
}

/** As JSON text, made as each embedding comes: thousands of them at once would hold up every stream. */
function floatsOf(embedding: Float32Array): string {
  let text = '[';
  for (const [index, value] of embedding.entries()) {
    // Shorter than the float64 that it would be printed as, and the same float32.
    text += `${index === 0 ? '' : ','}${Number(value.toPrecision(floatDigits))}`;
  }
  return `${text}]`;
}

/** Little-endian float32, as OpenAI has it. */
function base64Of({ buffer, byteOffset, byteLength }: Float32Array): string {
  return `"${Buffer.from(buffer, byteOffset, byteLength).toString('base64')}"`;
}

function bodyText(
  embeddings: readonly string[],
  model: string,
  { promptTokens, cachedTokens }: GenerationUsage,
): string {
  const data = embeddings.map(
    (embedding, index) => `{"object":"embedding","index":${index},"embedding":${embedding}}`,
  );
  const usage = {
    prompt_tokens: promptTokens,
    total_tokens: promptTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
  return `{"object":"list","data":[${data.join(',')}],"model":${JSON.stringify(model)},"usage":${JSON.stringify(usage)}}`;
}

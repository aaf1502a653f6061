import type { FastifyReply, FastifyRequest } from 'fastify';
import type { GenerationUsage } from '../../generation/generation.ts';
import { cosine } from '../../generation/vectors.ts';
import { type AnswerPlan, answer } from '../answering.ts';
import { clientGone } from '../client-gone.ts';
import { ProtocolError } from '../errors.ts';
import { parseRequest } from '../validation.ts';
import type { OpenAiContext } from './context.ts';
import { madeOf } from './embedding-answer.ts';
import { embeddingPlan, encodeInputs } from './embedding-plan.ts';
import { type RerankRequest, rerankRequest, type ScoreRequest, scoreRequest } from './embedding-requests.ts';

/** POST /v1/score, as vLLM has it for models that embed: the cosine of two texts' embeddings, one with each of several or pair by pair. */
export async function handleScore(
  context: OpenAiContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const body = parseRequest(scoreRequest, request.body);
  return answer(context, request, reply, await planScore(context, body, clientGone(reply.raw)));
}

/** POST /v1/rerank, as Jina, Cohere and vLLM have it: documents in order of their embeddings' cosine with the query's. */
export async function handleRerank(
  context: OpenAiContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const body = parseRequest(rerankRequest, request.body);
  return answer(context, request, reply, await planRerank(context, body, clientGone(reply.raw)));
}

async function planScore(
  context: OpenAiContext,
  body: ScoreRequest,
  signal: AbortSignal,
): Promise<AnswerPlan> {
  const model = context.models.resolve(body.model ?? undefined);
  const left = listOf(body.text_1);
  const right = listOf(body.text_2);
  if (left.length > 1 && left.length !== right.length) {
    const message = `text_1 has ${left.length} texts and text_2 ${right.length}; send one text_1, or as many as text_2`;
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'text_1' });
  }
  const prompts = [
    ...(await encodeInputs(left, 'text_1', body, model, signal)),
    ...(await encodeInputs(right, 'text_2', body, model, signal)),
  ];
  const id = `score-${context.nextId()}`;
  const word = (embeddings: readonly Float32Array[], usage: GenerationUsage): object => ({
    id,
    object: 'list',
    created: Math.floor(context.clock.wallMs() / 1000),
    model: body.model ?? model.name,
    data: right.map((_, index) => ({
      index,
      object: 'score',
      score: cosine(madeOf(embeddings, left.length > 1 ? index : 0), madeOf(embeddings, left.length + index)),
    })),
    usage: usageOf(usage),
  });
  return embeddingPlan(id, model, prompts, body, (pooled) => pooled, word);
}

async function planRerank(
  context: OpenAiContext,
  body: RerankRequest,
  signal: AbortSignal,
): Promise<AnswerPlan> {
  const model = context.models.resolve(body.model ?? undefined);
  const documents = body.documents.map((one) => (typeof one === 'string' ? one : one.text));
  const prompts = [
    ...(await encodeInputs([body.query], 'query', body, model, signal)),
    ...(await encodeInputs(documents, 'documents', body, model, signal)),
  ];
  const id = `rerank-${context.nextId()}`;
  const showsTexts = body.return_documents ?? true;
  const word = (embeddings: readonly Float32Array[], usage: GenerationUsage): object => {
    const results = documents.map((text, index) => ({
      index,
      ...(showsTexts && { document: { text } }),
      relevance_score: cosine(madeOf(embeddings, 0), madeOf(embeddings, index + 1)),
    }));
    results.sort((a, b) => b.relevance_score - a.relevance_score || a.index - b.index);
    // 0 is "all", as in vLLM.
    const shown = body.top_n ? results.slice(0, body.top_n) : results;
    return { id, model: body.model ?? model.name, usage: usageOf(usage), results: shown };
  };
  return embeddingPlan(id, model, prompts, body, (pooled) => pooled, word);
}

function listOf(texts: string | readonly string[]): readonly string[] {
  return typeof texts === 'string' ? [texts] : texts;
}

function usageOf({ promptTokens }: GenerationUsage): object {
  return { prompt_tokens: promptTokens, total_tokens: promptTokens, completion_tokens: 0 };
}

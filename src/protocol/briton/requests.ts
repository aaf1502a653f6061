import { stopStringsMax } from '../../base/limits.ts';
import type { GenerationInput } from '../../generation/generation.ts';
import { greedySampling, type SamplingParameters } from '../../runtime/requests/request.ts';
import { badWordTokens } from '../bad-words.ts';
import { ProtocolError } from '../errors.ts';
import type { ServedModel } from '../served-model.ts';
import { guideOf } from './guides.ts';
import { outputTokensDefault } from './limits.ts';
import type { InferenceRequest } from './messages.ts';

/**
 * A request as the engine takes it. Fields mean what they mean to TensorRT-LLM: without top-k and top-p the likeliest token is taken, a
 * top-k or top-p of 0 is no limit, `end_id` replaces the model's own end ids, and an answer ends where the context does.
 * @param schemas folder of the schemas that requests may name
 * @throws ProtocolError PARAMETER_INVALID (INVALID_ARGUMENT), PARAMETER_UNSUPPORTED (UNIMPLEMENTED); TokenizerError
 */
export async function generationInput(
  request: InferenceRequest,
  model: ServedModel,
  schemas?: string,
): Promise<GenerationInput> {
  refuseUnsupported(request);
  const promptTokens = await promptOf(request, model);
  const { contextLength } = model.client.description;
  const room = contextLength - promptTokens.length;
  if (room < 1)
    throw invalid(
      'input_ids',
      `the prompt has ${promptTokens.length} tokens, but the context is ${contextLength} and the answer needs room too; shorten it`,
    );
  const asked = request.request_output_len ?? outputTokensDefault;
  if (asked < 1) throw invalid('request_output_len', 'request_output_len is 0; ask for one token at least');
  const { end_id: endId, stop_words: stopWords } = request;
  checkEndId(endId, model);
  if (stopWords.length > stopStringsMax)
    throw invalid(
      'stop_words',
      `stop_words has ${stopWords.length} entries; at most ${stopStringsMax} are taken`,
    );
  const guide = await guideOf(request, model, schemas);
  return {
    promptTokens,
    ...(guide && { guide }),
    sampling: await samplingOf(request, model),
    maxTokens: Math.min(asked, room),
    minTokens: 0,
    stopTokenIds: endId === undefined ? [] : [endId],
    ignoreEos: endId !== undefined,
    stopStrings: stopWords,
    includeStopString: false,
    skipSpecialTokens: true,
    sequences: 1,
    priority: 0,
  };
}

/** What Briton has and this engine has not. @throws ProtocolError */
function refuseUnsupported(request: InferenceRequest): void {
  if (request.beam_width !== undefined && request.beam_width !== 1)
    throw invalid('beam_width', `beam_width is ${request.beam_width}; answers are streamed, so it must be 1`);
}

/** A text that carries its BOS already (a rendered chat) gets no second one. */
async function promptOf(
  { input_ids: ids, input_text: text }: InferenceRequest,
  model: ServedModel,
): Promise<Int32Array> {
  if (ids.length > 0) return Int32Array.from(ids);
  if (text === '')
    throw invalid('input_text', 'the request has neither input_text nor input_ids; send one of them');
  const tokens = await model.encode(text);
  const { bosTokenId } = model.tokenizer;
  const isDoubled = bosTokenId !== undefined && tokens[0] === bosTokenId && tokens[1] === bosTokenId;
  return isDoubled ? tokens.subarray(1) : tokens;
}

async function samplingOf(request: InferenceRequest, model: ServedModel): Promise<SamplingParameters> {
  const { runtime_top_k: topK = 0, runtime_top_p: topP = 0 } = request;
  const temperature = request.temperature ?? 1;
  checkRange('temperature', temperature, 0, 100);
  checkRange('runtime_top_p', topP, 0, 1);
  checkRange('len_penalty', request.len_penalty ?? 1, -100, 100);
  const repetitionPenalty = request.repetition_penalty ?? 1;
  checkRange('repetition_penalty', repetitionPenalty, Number.MIN_VALUE, 100);
  const presencePenalty = request.presence_penalty ?? 0;
  checkRange('presence_penalty', presencePenalty, -2, 2);
  const isGreedy = (request.runtime_top_k === undefined && request.runtime_top_p === undefined) || topK === 1;
  return {
    ...greedySampling,
    temperature: isGreedy ? 0 : temperature,
    topK,
    topP: topP === 0 ? 1 : topP,
    repetitionPenalty,
    presencePenalty,
    seed: seedOf(request.random_seed),
    badWords: request.bad_words.length > 0 ? await badWordTokens(request.bad_words, model) : undefined,
  };
}

/** Seeds of 64 bits are folded into the safe integers. */
function seedOf(seed: number | bigint | undefined): number | undefined {
  return typeof seed === 'bigint' ? Number(seed % BigInt(Number.MAX_SAFE_INTEGER)) : seed;
}

function checkEndId(id: number | undefined, model: ServedModel): void {
  const size = model.client.description.vocabularySize;
  if (id !== undefined && id >= size)
    throw invalid('end_id', `end_id ${id} is outside the vocabulary (0 to ${size - 1})`);
}

function checkRange(parameter: string, value: number, low: number, high: number): void {
  if (value >= low && value <= high) return;
  const from = low === Number.MIN_VALUE ? 'above 0' : `from ${low}`;
  throw invalid(parameter, `${parameter} is ${value}; it must be ${from} to ${high}`);
}

function invalid(parameter: string, message: string): ProtocolError {
  return new ProtocolError('PARAMETER_INVALID', message, { parameter });
}

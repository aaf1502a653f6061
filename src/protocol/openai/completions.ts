import type { FastifyReply, FastifyRequest } from 'fastify';
import type { GenerationInput } from '../../generation/generation.ts';
import { type AnswerPlan, answer } from '../answering.ts';
import { clientGone } from '../client-gone.ts';
import { ProtocolError } from '../errors.ts';
import { choicesPerRequestMax, promptsPerRequestMax } from '../limits.ts';
import type { ServedModel } from '../served-model.ts';
import { parseRequest } from '../validation.ts';
import { bansOf } from './bans.ts';
import { beamsOf } from './beams.ts';
import type { OpenAiContext } from './context.ts';
import { gapPrompt, gapTokensOf } from './fill-in-middle.ts';
import { encodableTokens, generationInput, promptLogprobsOf, truncated, usageReports } from './parameters.ts';
import { answerPlan } from './plan.ts';
import { refuseUnsupported } from './refused-fields.ts';
import { type CompletionRequest, completionRequest, tokenFields } from './requests.ts';
import { checkTokenId } from './token-ids.ts';

/** OpenAI's default for completions. */
const defaultMaxTokens = 16;

/** POST /v1/completions */
export async function handleCompletion(
  context: OpenAiContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const body = parseRequest(completionRequest, request.body, tokenFields);
  refuseUnsupported(body, 'completion');
  const model = context.models.resolve(body.model ?? undefined);
  return answer(context, request, reply, await planCompletion(context, body, model, clientGone(reply.raw)));
}

interface Prompt {
  tokens: Int32Array;
  /** As the client wrote it; absent for token ids. */
  text?: string;
}

async function planCompletion(
  context: OpenAiContext,
  body: CompletionRequest,
  model: ServedModel,
  signal: AbortSignal,
): Promise<AnswerPlan> {
  const usageWanted = usageReports(body);
  const { choices, sequences } = choiceCounts(body);
  const beams = beamsOf(body, sequences);
  const promptLogprobs = promptLogprobsOf(body);
  const gap = body.suffix ? gapTokensOf(model) : undefined;
  if (gap && body.echo) throw invalid('echo', 'echo does not go with suffix: there is no one text to repeat');
  const prompts = (await encodePrompts(body, model, signal)).map((prompt) =>
    truncatedPrompt(prompt, body, model),
  );
  if (prompts.length * sequences > choicesPerRequestMax) {
    const message = `${prompts.length} prompts × ${sequences} are over the ${choicesPerRequestMax} completions of one request; split it`;
    throw invalid('prompt', message);
  }
  const promptOnly = body.max_tokens === 0;
  if (promptOnly && !body.echo) throw invalid('max_tokens', 'max_tokens 0 makes sense only with echo: true');
  const logprobs = body.logprobs ?? undefined;
  const skipSpecialTokens = body.skip_special_tokens ?? true;
  const bans = await bansOf(body, model, signal);
  const inputs = prompts.map(({ tokens }): GenerationInput => {
    const requested = promptOnly ? 1 : (body.max_tokens ?? undefined);
    const limits = {
      requested,
      parameter: 'max_tokens',
      promptParameter: 'prompt',
      fallback: defaultMaxTokens,
    };
    const input = generationInput(body, model, tokens, limits, bans);
    return {
      ...input,
      stopTokenIds: gap ? [...input.stopTokenIds, ...gap.ends] : input.stopTokenIds,
      // A beam search ranks its texts itself.
      sequences: beams ? choices : sequences,
      beams,
      // best_of ranks by the chosen tokens' log-probabilities.
      logprobs: logprobs ?? (sequences > choices && !beams ? 0 : undefined),
      promptLogprobs: mostOf(body.echo ? logprobs : undefined, promptLogprobs),
    };
  });
  return answerPlan('completion', body.stream ?? false, inputs, {
    id: `cmpl-${context.nextId()}`,
    createdSeconds: Math.floor(context.clock.wallMs() / 1000),
    modelName: body.model ?? model.name,
    model,
    choicesPerPrompt: choices,
    sequencesPerPrompt: beams ? choices : sequences,
    prompts: prompts.map((prompt) => prompt.tokens),
    logprobs,
    promptLogprobs,
    returnTokenIds: body.return_token_ids ?? false,
    ...usageWanted,
    echo: body.echo
      ? prompts.map((prompt) => prompt.text ?? model.tokenizer.decode(prompt.tokens, { skipSpecialTokens }))
      : undefined,
    skipSpecialTokens,
    promptOnly,
  });
}

/** What is cut off a prompt is not its text any more. */
function truncatedPrompt(prompt: Prompt, body: CompletionRequest, model: ServedModel): Prompt {
  const tokens = truncated(
    prompt.tokens,
    body.truncate_prompt_tokens,
    body.max_tokens ?? defaultMaxTokens,
    model,
  );
  return tokens === prompt.tokens ? prompt : { tokens };
}

function mostOf(...counts: (number | undefined)[]): number | undefined {
  const given = counts.filter((count) => count !== undefined);
  return given.length > 0 ? Math.max(...given) : undefined;
}

function choiceCounts(body: CompletionRequest): { choices: number; sequences: number } {
  const choices = body.n ?? 1;
  const sequences = body.best_of ?? choices;
  if (sequences < choices) throw invalid('best_of', `best_of ${sequences} is under n ${choices}`);
  if (sequences > choices && body.stream) {
    throw invalid('best_of', 'best_of over n cannot be streamed: the best is known only at the end');
  }
  return { choices, sequences };
}

async function encodePrompts(
  body: CompletionRequest,
  model: ServedModel,
  signal: AbortSignal,
): Promise<Prompt[]> {
  const { prompt } = body;
  const addSpecialTokens = body.add_special_tokens ?? true;
  const tokensMax = encodableTokens(body.truncate_prompt_tokens);
  const options = { addSpecialTokens, tokensMax, signal };
  const { suffix } = body;
  const gap = suffix ? gapTokensOf(model) : undefined;
  const ofText = async (text: string): Promise<Prompt> => {
    if (gap && suffix) return { tokens: await gapPrompt(text, suffix, gap, model, options) };
    const tokens = await model.encode(text, options);
    if (tokens.length === 0)
      throw invalid(
        'prompt',
        'the prompt is empty and this model has no token to begin with; send some text',
      );
    return { tokens, text };
  };
  const ofTokens = async (ids: readonly number[]): Promise<Prompt> => {
    for (const id of ids) checkTokenId(id, model, 'prompt');
    const tokens = Int32Array.from(ids);
    return { tokens: gap && suffix ? await gapPrompt(tokens, suffix, gap, model, options) : tokens };
  };
  if (typeof prompt === 'string') return [await ofText(prompt)];
  if (typeof prompt[0] === 'number') return [await ofTokens(prompt as number[])];
  if (prompt.length > promptsPerRequestMax) {
    throw invalid(
      'prompt',
      `${prompt.length} prompts are over the ${promptsPerRequestMax} of one request; split it`,
    );
  }
  const prompts: Prompt[] = [];
  for (const each of prompt as (string | number[])[]) {
    prompts.push(await (typeof each === 'string' ? ofText(each) : ofTokens(each)));
  }
  return prompts;
}

function invalid(parameter: string, message: string): ProtocolError {
  return new ProtocolError('PARAMETER_INVALID', message, { parameter });
}

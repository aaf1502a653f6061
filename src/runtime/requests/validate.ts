import { logprobsMax, sequencesPerRequestMax } from '../../base/limits.ts';
import { hiddenUnsupported, RuntimeError } from '../errors.ts';
import { type Guide, guideLengthMax, guideSpecialTokensMax } from '../guidance/guide.ts';
import { type Retention, type RetentionLevel, retentionPriorityMax } from '../kv/retention.ts';
import { outputLayout } from '../outputs/request-outputs.ts';
import type { BeamParameters } from '../sequences/beam-search.ts';
import { draftTokensMax } from '../speculation/governor.ts';
import { ngramLengthMax } from '../speculation/ngram-lengths.ts';
import type { GenerationRequest, RequestReturns, RequestSpeculation, SamplingParameters } from './request.ts';
import type { EngineDescription } from './statistics.ts';

/** Entries of a logit bias, and stop ids, of one request. */
export const logitBiasMax = 1024;
export const stopTokenIdsMax = 1024;
export const cacheSaltLengthMax = 1024;
/** Ranges of a prompt that a request may say how dear they are of. */
export const retentionRangesMax = 64;
/** Beams of one request. */
export const beamWidthMax = 64;
/** Tokens of a prediction: what is looked up takes memory for each. */
export const predictionTokensMax = 65_536;
/** Draft tokens that one request brings. */
export const draftTokensPerRequestMax = 1024;
/** Logits that come with drafts, at most: 32 MiB of a message. */
export const draftLogitsMax = 8 * 1024 * 1024;
/** Bad words of one request, and tokens of all of them together. */
export const badWordsMax = 1024;
export const badWordTokensMax = 16_384;
/** Each token costs a look at so many before it. */
export const noRepeatNgramSizeMax = 64;
/** Tokens the engine is asked for at most; more than any context holds. */
const tokensMax = 2 ** 31 - 1;

/** Names of adapters: they stand in `model`, in metrics and in paths. */
export const adapterName = /^[\w][\w.:/@+-]{0,254}$/;
export const adapterNameRule =
  'a name has letters, digits and ._:/@+- (255 at most), and begins with a letter, digit or _';

interface Range {
  low: number;
  high: number;
  /** `low` itself is not allowed. */
  lowIsOpen?: boolean;
  integer?: boolean;
}

/** Those that every request has. */
type RangedParameter = keyof typeof samplingRanges;

const samplingRanges = {
  temperature: { low: 0, high: 100 },
  topK: { low: 0, high: tokensMax, integer: true },
  topP: { low: 0, high: 1, lowIsOpen: true },
  minP: { low: 0, high: 1 },
  repetitionPenalty: { low: 0, high: 100, lowIsOpen: true },
  presencePenalty: { low: -2, high: 2 },
  frequencyPenalty: { low: -2, high: 2 },
} satisfies Partial<Record<keyof SamplingParameters, Range>>;

/** What of an engine a request is held against. */
export type RequestLimits = Pick<
  EngineDescription,
  'device' | 'vocabularySize' | 'contextLength' | 'hiddenWidth' | 'outputBytesMax'
>;

/**
 * Checks everything a request says, so that nothing odd reaches the scheduler, the sampler or a device (ggml aborts on a bad id).
 * Called by the front end before sending, and by the engine again, since it cannot know who sent it.
 * @throws RuntimeError `REQUEST_INVALID` naming the parameter and its range; `PROMPT_TOO_LONG`; `OUTPUTS_UNSUPPORTED`, `REQUEST_TOO_LARGE`
 */
export function validateRequest(request: GenerationRequest, engine: RequestLimits): void {
  checkNumber('id', request.id, { low: 0, high: Number.MAX_SAFE_INTEGER, integer: true });
  const tokensMin = isPromptOnly(request) ? 0 : 1;
  checkPrompt(request.promptTokens, tokensMin, engine);
  for (const [name, range] of Object.entries(samplingRanges)) {
    checkNumber(name, request.sampling[name as RangedParameter], range);
  }
  const { seed, logitBias } = request.sampling;
  const safe = { low: Number.MIN_SAFE_INTEGER, high: Number.MAX_SAFE_INTEGER, integer: true };
  if (seed !== undefined) checkNumber('seed', seed, safe);
  if (logitBias) checkBias(logitBias, engine.vocabularySize);
  checkBans(request.sampling, engine.vocabularySize);
  checkNumber('maxTokens', request.maxTokens, { low: tokensMin, high: tokensMax, integer: true });
  checkNumber('minTokens', request.minTokens, { low: 0, high: request.maxTokens, integer: true });
  checkNumber('sequences', request.sequences, { low: 1, high: sequencesPerRequestMax, integer: true });
  checkNumber('priority', request.priority, safe);
  const logprobs = { low: 0, high: Math.min(logprobsMax, engine.vocabularySize), integer: true };
  if (request.logprobs !== undefined) checkNumber('logprobs', request.logprobs, logprobs);
  if (request.promptLogprobs !== undefined) checkNumber('promptLogprobs', request.promptLogprobs, logprobs);
  checkCount('stopTokenIds', request.stopTokenIds.length, stopTokenIdsMax);
  for (const token of request.stopTokenIds) checkToken('stopTokenIds', token, engine.vocabularySize);
  if (request.guide) checkGuide(request.guide);
  const { adapter } = request;
  if (adapter && !(adapterName.test(adapter.name) && /^[0-9a-f]{64}$/.test(adapter.digest))) {
    throw invalid(
      `adapter '${String(adapter.name).slice(0, 200)}' is no adapter's name and digest; ${adapterNameRule}`,
    );
  }
  checkDraft(request, engine.vocabularySize);
  if (request.beams) checkBeams(request, request.beams);
  if ((request.cacheSalt?.length ?? 0) > cacheSaltLengthMax) {
    throw invalid(`cacheSalt has over ${cacheSaltLengthMax} characters; shorten or hash it`);
  }
  if (request.retention) checkRetention(request.retention);
  if (request.returns) checkReturns(request, request.returns, engine);
}

function checkGuide({ source, specialTokens = [] }: Guide): void {
  if (source.length > guideLengthMax) {
    throw invalid(`the guide's grammar has ${source.length} characters; at most ${guideLengthMax} are taken`);
  }
  checkCount('guide.specialTokens', specialTokens.length, guideSpecialTokensMax);
}

function checkPrompt(prompt: Int32Array, tokensMin: number, engine: RequestLimits): void {
  if (prompt.length === 0) throw invalid('the prompt has no tokens; send at least one');
  if (prompt.length + tokensMin > engine.contextLength) {
    const answer = tokensMin > 0 ? ' (one is needed for the answer)' : '';
    throw new RuntimeError(
      'PROMPT_TOO_LONG',
      `the prompt has ${prompt.length} tokens, but the context is ${engine.contextLength}${answer}; ` +
        `shorten it to ${engine.contextLength - tokensMin} or fewer`,
    );
  }
  for (const token of prompt) checkToken('promptTokens', token, engine.vocabularySize);
}

/** Whether it asks for something of its prompt that needs no token after it. */
function isPromptOnly({ maxTokens, returns }: GenerationRequest): boolean {
  return (
    maxTokens === 0 && (returns?.pooling || returns?.contextHidden || returns?.contextLogits) !== undefined
  );
}

function checkReturns(request: GenerationRequest, returns: RequestReturns, engine: RequestLimits): void {
  const { pooling, contextHidden } = returns;
  if (pooling !== undefined && pooling !== 'last' && pooling !== 'mean') {
    throw invalid(`returns.pooling is ${String(pooling).slice(0, 50)}; it must be 'last' or 'mean'`);
  }
  if (pooling || contextHidden) {
    if (engine.hiddenWidth === 0) throw hiddenUnsupported(engine.device);
    if (request.maxTokens !== 0) throw invalid("hidden states are a prompt's; send maxTokens 0 with them");
  }
  if (request.maxTokens === 0) checkPromptOnly(request, returns);
  if (request.beams && returns.generationLogits) {
    throw invalid('beam search returns no generation logits; ask for one of the two');
  }
  const { bytes } = outputLayout(request, engine);
  if (bytes <= engine.outputBytesMax) return;
  throw new RuntimeError(
    'REQUEST_TOO_LARGE',
    `the logits or hidden states that this request asks for may take ${bytes} bytes, over the engine's ${engine.outputBytesMax}; ` +
      'send a shorter prompt or a smaller maxTokens, or serve with a larger --output-memory',
  );
}

function checkPromptOnly(request: GenerationRequest, returns: RequestReturns): void {
  const { sequences, beams, guide, draft, prediction, logprobs, promptLogprobs } = request;
  const wrong = {
    'sequences above 1': sequences > 1,
    ...{ beams, guide, draft, prediction, logprobs, promptLogprobs },
    'returns.generationLogits': returns.generationLogits,
  };
  const [name] = Object.entries(wrong).find(([, value]) => value !== undefined && value !== false) ?? [];
  if (name) throw invalid(`maxTokens is 0: nothing is generated, so ${name} cannot be; leave it out`);
}

function checkBeams(request: GenerationRequest, beams: BeamParameters): void {
  checkNumber('beams.width', beams.width, { low: 1, high: beamWidthMax, integer: true });
  checkNumber('beams.lengthPenalty', beams.lengthPenalty, { low: -100, high: 100 });
  checkNumber('beams.diversityRate', beams.diversityRate, { low: -100, high: 100 });
  if (request.sequences > beams.width) {
    throw invalid(
      `sequences is ${request.sequences}, but beams.width is ${beams.width}; ask for no more texts than beams`,
    );
  }
  if (request.guide) throw invalid('beam search takes no guide; ask for one of the two');
  if (request.draft || request.prediction) {
    throw invalid('beam search takes no draft and no prediction; leave them out');
  }
}

function checkDraft({ draft, prediction, speculation }: GenerationRequest, vocabularySize: number): void {
  if (prediction) {
    checkCount('prediction', prediction.length, predictionTokensMax);
    for (const token of prediction) checkToken('prediction', token, vocabularySize);
  }
  if (speculation) checkSpeculation(speculation);
  if (!draft) return;
  if (draft.tokens.length === 0) throw invalid('draft.tokens is empty; leave the draft out');
  checkCount('draft.tokens', draft.tokens.length, draftTokensPerRequestMax);
  for (const token of draft.tokens) checkToken('draft.tokens', token, vocabularySize);
  const { logits, threshold } = draft;
  if (threshold !== undefined) {
    if (!logits)
      throw invalid('draft.threshold compares draft.logits; send them, or leave the threshold out');
    checkNumber('draft.threshold', threshold, { low: 0, high: 1, lowIsOpen: true });
  }
  if (!logits) return;
  checkCount('draft.logits', logits.length, draftLogitsMax);
  if (logits.length === draft.tokens.length * vocabularySize) return;
  const found = `draft.logits has ${logits.length} values for ${draft.tokens.length} drafts`;
  throw invalid(`${found}; a row of ${vocabularySize} (the vocabulary) is needed for each`);
}

function checkSpeculation({ draftsMax = 0, lookup }: RequestSpeculation): void {
  checkNumber('speculation.draftsMax', draftsMax, { low: 0, high: draftTokensMax, integer: true });
  if (!lookup) return;
  const { min, max } = lookup;
  checkNumber('speculation.lookup.max', max, { low: 1, high: ngramLengthMax, integer: true });
  checkNumber('speculation.lookup.min', min, { low: 1, high: max, integer: true });
}

function checkBias(bias: readonly (readonly [number, number])[], vocabularySize: number): void {
  checkCount('logitBias', bias.length, logitBiasMax);
  for (const [token, value] of bias) {
    checkToken('logitBias', token, vocabularySize);
    checkNumber('logitBias', value, { low: -100, high: 100 });
  }
}

function checkBans(sampling: SamplingParameters, vocabularySize: number): void {
  const { embeddingBias, allowedTokens, badWords, noRepeatNgramSize, topPDecay } = sampling;
  if (embeddingBias) checkEmbeddingBias(embeddingBias, vocabularySize);
  if (allowedTokens) {
    if (allowedTokens.length === 0) throw invalid('allowedTokens has no entries; name one token at least');
    checkCount('allowedTokens', allowedTokens.length, vocabularySize);
    for (const token of allowedTokens) checkToken('allowedTokens', token, vocabularySize);
  }
  if (badWords) checkBadWords(badWords, vocabularySize);
  const sizes = { low: 0, high: noRepeatNgramSizeMax, integer: true };
  if (noRepeatNgramSize !== undefined) checkNumber('noRepeatNgramSize', noRepeatNgramSize, sizes);
  if (!topPDecay) return;
  const share = { low: 0, high: 1, lowIsOpen: true };
  checkNumber('topPDecay.factor', topPDecay.factor, share);
  checkNumber('topPDecay.min', topPDecay.min, share);
  const { resetToken } = topPDecay;
  if (resetToken !== undefined) checkToken('topPDecay.resetToken', resetToken, vocabularySize);
}

function checkRetention({ ranges, decode }: Retention): void {
  checkCount('retention.ranges', ranges.length, retentionRangesMax);
  const position = { low: 0, high: tokensMax, integer: true };
  for (const range of ranges) {
    checkNumber('retention.ranges.start', range.start, position);
    if (range.end !== undefined)
      checkNumber('retention.ranges.end', range.end, { ...position, low: range.start });
    checkLevel('retention.ranges', range);
  }
  if (decode) checkLevel('retention.decode', decode);
}

function checkLevel(name: string, { priority, durationMs }: RetentionLevel): void {
  checkNumber(`${name}.priority`, priority, { low: 0, high: retentionPriorityMax, integer: true });
  if (durationMs === undefined) return;
  checkNumber(`${name}.durationMs`, durationMs, { low: 0, high: Number.MAX_SAFE_INTEGER });
}

function checkEmbeddingBias(bias: Float32Array, vocabularySize: number): void {
  checkCount('embeddingBias', bias.length, vocabularySize);
  for (let token = 0; token < bias.length; token++) {
    const value = bias[token] as number;
    if (value < Number.POSITIVE_INFINITY) continue;
    throw invalid(
      `embeddingBias has ${value} for token ${token}; it must be a number, or -Infinity to ban it`,
    );
  }
}

function checkBadWords(words: readonly (readonly number[])[], vocabularySize: number): void {
  checkCount('badWords', words.length, badWordsMax);
  let count = 0;
  for (const word of words) {
    if (word.length === 0) throw invalid('badWords has an empty word; leave it out');
    count += word.length;
    for (const token of word) checkToken('badWords', token, vocabularySize);
  }
  if (count > badWordTokensMax) {
    throw invalid(`badWords have ${count} tokens together; at most ${badWordTokensMax} are taken`);
  }
}

function checkCount(name: string, count: number, max: number): void {
  if (count > max) throw invalid(`${name} has ${count} entries; at most ${max} are taken`);
}

function checkToken(name: string, token: number, vocabularySize: number): void {
  if (!(token >= 0 && token < vocabularySize && Number.isInteger(token))) {
    throw invalid(`${name} has token ${token}; ids go from 0 to ${vocabularySize - 1}`);
  }
}

function checkNumber(name: string, value: unknown, range: Range): void {
  const isInside =
    typeof value === 'number' &&
    (range.lowIsOpen ? value > range.low : value >= range.low) &&
    value <= range.high &&
    (!range.integer || Number.isInteger(value));
  if (isInside) return;
  const what = range.integer ? 'an integer' : 'a number';
  const low = range.lowIsOpen ? `above ${range.low}` : `from ${range.low}`;
  throw invalid(`${name} is ${String(value)}; it must be ${what} ${low} to ${range.high}`);
}

function invalid(message: string): RuntimeError {
  return new RuntimeError('REQUEST_INVALID', message);
}

import { messageOf } from '../../base/errors.ts';
import { type GuideWish, guideOfWish } from '../../runtime/guidance/grammar/wish.ts';
import type { GenerationRequest, SamplingParameters } from '../../runtime/requests/request.ts';
import { RepositoryError } from '../errors.ts';
import type { InferRequest } from '../model.ts';
import { draftOfRow } from './draft.ts';
import type { Inputs } from './inputs.ts';
import { lookaheadOfRow } from './lookahead.ts';
import { wordsMarkOf } from './marks.ts';
import { retentionOfRow } from './retention.ts';
import { tolerated } from './tolerated.ts';
import { wordsOfRow } from './word-lists.ts';

/** What the engine behind a model is, as far as requests depend on it. */
export interface EngineFacts {
  vocabularySize: number;
  /** The model's own end-of-text ids. */
  stopTokenIds: readonly number[];
}

/** One row of a request: what the engine is asked, and what is done with its answer. */
export interface GenerationPlan {
  request: Omit<GenerationRequest, 'id'>;
  /** As the client sent it: echoed where the prompt is part of the output. */
  prompt: Int32Array;
  stopSequences: number[][];
  /** Stop words as texts, where they are known. */
  stopTexts: readonly string[];
}

/**
 * One row of TensorRT-LLM's tensors as a generation. Greedy unless runtime_top_k or runtime_top_p ask for sampling, with seed 0 unless
 * there is one, as the original.
 * @throws RepositoryError INVALID_ARGUMENT naming the tensor
 */
export function planGeneration(
  request: InferRequest,
  inputs: Inputs,
  row: number,
  facts: EngineFacts,
): GenerationPlan {
  const prompt = promptOfRow(inputs, row);
  const maxTokens = inputs.required('request_output_len', row);
  if (maxTokens < 1) {
    throw new RepositoryError(
      'INVALID_ARGUMENT',
      `'request_output_len' is ${maxTokens}; it must be at least 1`,
    );
  }
  const beams = beamsOfRow(inputs, row);
  const stopList = inputs.get('stop_words_list');
  const stopWords = stopList ? wordsOfRow(stopList, row) : [];
  const stopTexts = stopList && wordsMarkOf(stopList)?.rows;
  const priority = request.priority ?? 0;
  return {
    prompt,
    stopSequences: stopWords,
    stopTexts: stopTexts?.[row] ?? [],
    request: {
      promptTokens: tolerated(prompt, facts.vocabularySize),
      sampling: samplingOfRow(inputs, row),
      maxTokens,
      minTokens: Math.min(maxTokens, Math.max(0, inputs.number('min_tokens', row) ?? 0)),
      stopTokenIds: endIds(inputs, row, facts),
      sequences: inputs.number('num_return_sequences', row) || beams?.width || 1,
      ...(beams && { beams }),
      logprobs:
        inputs.truth('return_log_probs', row) || inputs.truth('output_log_probs', row) ? 0 : undefined,
      retention: retentionOfRow(inputs, row),
      ...draftOfRow(inputs, row, facts.vocabularySize),
      ...lookaheadOfRow(inputs, row),
      ...guideOfRow(inputs, row),
      // Triton's level 1 is the most urgent; 0 is no level.
      priority: priority > 0 ? priorityBase - priority : 0,
    },
  };
}

const priorityBase = 2 ** 31;

function promptOfRow(inputs: Inputs, row: number): Int32Array {
  const ids = inputs.row('input_ids', 'INT32', row);
  if (!ids) throw new RepositoryError('INVALID_ARGUMENT', "the input 'input_ids' is missing; send it");
  const length = inputs.required('input_lengths', row);
  if (length < 1 || length > ids.length) {
    const found = `'input_lengths' is ${length}, but 'input_ids' has ${ids.length} of them`;
    throw new RepositoryError('INVALID_ARGUMENT', `${found}; it must be 1 to that`);
  }
  return Int32Array.from(ids.subarray(0, length));
}

/** What the text must look like. @throws RepositoryError INVALID_ARGUMENT */
function guideOfRow(inputs: Inputs, row: number): Pick<GenerationRequest, 'guide'> {
  const type = inputs.text('guided_decoding_guide_type', row);
  const guide = inputs.text('guided_decoding_guide', row);
  if (type === undefined || type === '') {
    if (!guide) return {};
    const problem = "'guided_decoding_guide' needs a 'guided_decoding_guide_type'; send both";
    throw new RepositoryError('INVALID_ARGUMENT', problem);
  }
  if (type === 'json') return { guide: guideOfWish({ kind: 'json_object' }) };
  const wish = wishOf(type, guide ?? '');
  if (!wish) {
    const known = 'json, json_schema, regex, ebnf_grammar and structural_tag';
    throw new RepositoryError(
      'INVALID_ARGUMENT',
      `'guided_decoding_guide_type' is '${type.slice(0, 40)}'; it must be ${known}`,
    );
  }
  if (!guide) {
    throw new RepositoryError('INVALID_ARGUMENT', `'guided_decoding_guide' is missing; '${type}' needs it`);
  }
  try {
    return { guide: guideOfWish(wish) };
  } catch (thrown) {
    throw new RepositoryError('INVALID_ARGUMENT', `'guided_decoding_guide': ${messageOf(thrown)}`);
  }
}

function wishOf(type: string, guide: string): GuideWish | undefined {
  switch (type) {
    case 'json_schema':
      return { kind: 'json_schema', schema: guide };
    case 'regex':
      return { kind: 'regex', pattern: guide };
    case 'ebnf_grammar':
      return { kind: 'grammar', grammar: guide };
    case 'structural_tag':
      return { kind: 'structural_tag', tag: guide };
    default:
      return undefined;
  }
}

/** TensorRT-LLM's beams: more than one is a beam search, with its defaults: no length penalty, and early stopping. */
function beamsOfRow(inputs: Inputs, row: number): GenerationRequest['beams'] {
  const width = inputs.number('beam_width', row) ?? 1;
  if (width <= 1) return undefined;
  return {
    width,
    lengthPenalty: inputs.number('len_penalty', row) ?? 0,
    earlyStopping: (inputs.number('early_stopping', row) ?? 1) !== 0,
    diversityRate: inputs.number('beam_search_diversity_rate', row) ?? 0,
  };
}

function endIds(inputs: Inputs, row: number, facts: EngineFacts): number[] {
  const asked = inputs.number('end_id', row);
  if (asked === undefined) return [...facts.stopTokenIds];
  if (asked < 0 || asked >= facts.vocabularySize) return [];
  // Chat models end a turn with another id than a text: asked for the one, the others end it too.
  return facts.stopTokenIds.includes(asked) ? [...facts.stopTokenIds] : [asked];
}

function samplingOfRow(inputs: Inputs, row: number): SamplingParameters {
  const topK = Math.max(0, inputs.number('runtime_top_k', row) ?? 0);
  const topP = Math.max(0, inputs.number('runtime_top_p', row) ?? 0);
  const isGreedy = topK === 1 || (topK === 0 && topP <= 0);
  return {
    temperature: isGreedy ? 0 : (inputs.number('temperature', row) ?? 1),
    topK: isGreedy ? 0 : topK,
    topP: isGreedy || topP <= 0 ? 1 : Math.min(1, topP),
    minP: 0,
    repetitionPenalty: inputs.number('repetition_penalty', row) ?? 1,
    presencePenalty: inputs.number('presence_penalty', row) ?? 0,
    frequencyPenalty: inputs.number('frequency_penalty', row) ?? 0,
    // Seeds are UINT64; the engine takes what a number holds exactly.
    seed: (inputs.number('seed', row) ?? 0) % Number.MAX_SAFE_INTEGER,
    ...bansOfRow(inputs, row),
  };
}

/** TensorRT-LLM's default of `runtime_top_p_min`. */
const topPMinDefault = 1e-6;

function bansOfRow(inputs: Inputs, row: number): Partial<SamplingParameters> {
  const bans: Partial<SamplingParameters> = {};
  const bias = inputs.row('embedding_bias', 'FP32', row);
  if (bias?.some((value) => value !== 0)) bans.embeddingBias = Float32Array.from(bias);
  const badList = inputs.get('bad_words_list');
  const badWords = badList ? wordsOfRow(badList, row) : [];
  if (badWords.length > 0) bans.badWords = badWords;
  const ngramSize = inputs.number('no_repeat_ngram_size', row) ?? 0;
  if (ngramSize > 0) bans.noRepeatNgramSize = ngramSize;
  const factor = inputs.number('runtime_top_p_decay', row) ?? 1;
  const min = inputs.number('runtime_top_p_min', row) || topPMinDefault;
  const resetToken = inputs.number('runtime_top_p_reset_ids', row) ?? -1;
  // 0 is unset, as it is there.
  if (factor > 0 && factor < 1) {
    bans.topPDecay = { factor, min, resetToken: resetToken >= 0 ? resetToken : undefined };
  }
  return bans;
}

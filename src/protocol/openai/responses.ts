import type { NereidError } from '../../base/errors.ts';
import type { GenerationDelta, GenerationUsage } from '../../generation/generation.ts';
import type { RequestStart, TokenLogprobs } from '../../runtime/requests/events.ts';
import type { AnswerReading } from '../answer-parser.ts';
import { type WholeParts, wholeParts } from '../answer-parts.ts';
import type { GatheredAnswer } from '../answering.ts';
import { ProtocolError } from '../errors.ts';
import { gatheredLogprobsMax } from '../limits.ts';
import type { ServedModel } from '../served-model.ts';
import {
  type CompletionLogprobs,
  CompletionLogprobsBuilder,
  chatLogprobs,
  promptTokenLogprobs,
} from './logprobs.ts';

/** What all parts of one answer carry, and what the request asked to see. */
export interface AnswerSettings {
  /** `chatcmpl-…` or `cmpl-…`. */
  id: string;
  createdSeconds: number;
  /** The name the client used. */
  modelName: string;
  model: ServedModel;
  /** Choices the client gets for each prompt. */
  choicesPerPrompt: number;
  /** Choices generated for each prompt: more than it gets with `best_of`. */
  sequencesPerPrompt: number;
  prompts: readonly Int32Array[];
  /** Top log-probabilities a token; absent: none at all. */
  logprobs?: number;
  /** Top log-probabilities of each token of the prompt (vLLM's `prompt_logprobs`); absent: none. */
  promptLogprobs?: number;
  /** How reasoning and calls are found in the answers; absent: they are text. */
  reading?: AnswerReading;
  /** Whether the client wants to see the reasoning. */
  includeReasoning?: boolean;
  returnTokenIds: boolean;
  includeUsage: boolean;
  /** vLLM's `continuous_usage_stats`: every event of a stream has the counts so far. */
  continuousUsage: boolean;
  /** Text in front of each prompt's choices (`echo`). */
  echo?: readonly string[];
  /** Whether generated text leaves special tokens out; offsets in it depend on that. */
  skipSpecialTokens: boolean;
  /** Drops what is generated: the prompt alone was wanted (`max_tokens: 0` with `echo`). */
  promptOnly: boolean;
}

/** OpenAI's token counts. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  /** Tokens that were guessed ahead, from a prediction or by the server's own drafts. */
  completion_tokens_details?: { accepted_prediction_tokens: number; rejected_prediction_tokens: number };
}

/** Counts as OpenAI words them. */
export function usageOf(usage: GenerationUsage, settings: AnswerSettings): Usage {
  const completionTokens = settings.promptOnly ? 0 : usage.completionTokens;
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: completionTokens,
    total_tokens: usage.promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens },
    ...(usage.drafts && { completion_tokens_details: predictionDetails(usage.drafts) }),
  };
}

function predictionDetails({ proposed, accepted }: { proposed: number; accepted: number }) {
  return { accepted_prediction_tokens: accepted, rejected_prediction_tokens: proposed - accepted };
}

/** One choice as it grows. */
class Choice {
  text = '';
  readonly tokens: number[] = [];
  readonly logprobs: TokenLogprobs[] = [];
  finish: string | null = null;
  stopReason: string | number | null = null;

  add(delta: GenerationDelta): void {
    this.text += delta.text;
    for (const token of delta.tokens) this.tokens.push(token);
    if (delta.logprobs) this.logprobs.push(...delta.logprobs);
    if (delta.finish) this.finish = delta.finish;
    if (delta.stopReason !== undefined) this.stopReason = delta.stopReason;
  }

  /** Mean log-probability of a token: what `best_of` ranks by. */
  get score(): number {
    if (this.logprobs.length === 0) return Number.NEGATIVE_INFINITY;
    return this.logprobs.reduce((sum, entry) => sum + entry.logprob, 0) / this.logprobs.length;
  }
}

/** Gathers an answer that is sent as a whole; {@link body} resolves with it. */
export class WholeAnswer implements GatheredAnswer {
  readonly body: Promise<object>;
  readonly #settings: AnswerSettings;
  readonly #render: (answer: FinishedAnswer) => object;
  readonly #choices: Choice[];
  readonly #starts: RequestStart[] = [];
  #logprobCount = 0;
  #resolve: (body: object) => void = () => {};
  #reject: (error: Error) => void = () => {};

  constructor(settings: AnswerSettings, render: (answer: FinishedAnswer) => object) {
    this.#settings = settings;
    this.#render = render;
    const count = settings.prompts.length * settings.sequencesPerPrompt;
    this.#choices = Array.from({ length: count }, () => new Choice());
    this.body = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // The caller may have gone by then.
    this.body.catch(() => {});
  }

  start(prompt: number, start: RequestStart): void {
    this.#starts[prompt] = start;
    this.#countLogprobs(start.promptLogprobs?.length ?? 0);
  }

  delta(choice: number, delta: GenerationDelta): void {
    if (delta.logprobs) this.#countLogprobs(delta.logprobs.length);
    this.#choices[choice]?.add(delta);
  }

  /** @throws ProtocolError ANSWER_TOO_LARGE */
  #countLogprobs(tokens: number): void {
    this.#logprobCount +=
      tokens * (1 + Math.max(this.#settings.logprobs ?? 0, this.#settings.promptLogprobs ?? 0));
    if (this.#logprobCount <= gatheredLogprobsMax) return;
    const message = `the answer has over ${gatheredLogprobsMax} log-probabilities; stream it, or ask for fewer tokens or top ones`;
    throw new ProtocolError('ANSWER_TOO_LARGE', message, { parameter: 'logprobs' });
  }

  end(usage: GenerationUsage): void {
    const settings = this.#settings;
    const choices = settings.prompts.flatMap((_, prompt) =>
      this.#best(prompt).map((choice) => ({ prompt, choice })),
    );
    try {
      this.#resolve(
        this.#render({ settings, choices, starts: this.#starts, usage: usageOf(usage, settings) }),
      );
    } catch (error) {
      this.#reject(error as Error);
    }
  }

  fail(error: NereidError): void {
    this.#reject(error);
  }

  /** Finish reasons, for the log. */
  get finishReasons(): string {
    return [...new Set(this.#choices.map((choice) => choice.finish))].join(',');
  }

  #best(prompt: number): Choice[] {
    const { sequencesPerPrompt, choicesPerPrompt } = this.#settings;
    const all = this.#choices.slice(prompt * sequencesPerPrompt, (prompt + 1) * sequencesPerPrompt);
    if (sequencesPerPrompt === choicesPerPrompt) return all;
    return all.sort((a, b) => b.score - a.score).slice(0, choicesPerPrompt);
  }
}

/** A finished answer before it is put into words. */
export interface FinishedAnswer {
  settings: AnswerSettings;
  choices: { prompt: number; choice: Choice }[];
  starts: readonly RequestStart[];
  usage: Usage;
}

function envelope({ settings, usage }: FinishedAnswer, object: string, choices: object[]): object {
  return {
    id: settings.id,
    object,
    created: settings.createdSeconds,
    model: settings.modelName,
    system_fingerprint: settings.model.fingerprint,
    choices,
    usage,
  };
}

/** `chat.completion` */
export function chatCompletion(answer: FinishedAnswer): object {
  const { settings } = answer;
  const { tokenizer } = settings.model;
  const choices = answer.choices.map(({ prompt, choice }, index) => ({
    index,
    ...chatMessage(settings, prompt, choice),
    logprobs:
      settings.logprobs === undefined
        ? null
        : {
            content: chatLogprobs(tokenizer, choice.tokens, choice.logprobs, settings.logprobs),
            refusal: null,
          },
    stop_reason: choice.stopReason,
    ...(settings.returnTokenIds ? { token_ids: choice.tokens } : {}),
  }));
  return {
    ...envelope(answer, 'chat.completion', choices),
    ...(settings.returnTokenIds ? { prompt_token_ids: [...(settings.prompts[0] ?? [])] } : {}),
    ...promptLogprobs(answer, 0),
  };
}

/** The message with what was found in its text, and the finish reason that follows from it. */
function chatMessage(settings: AnswerSettings, prompt: number, choice: Choice): object {
  const { reading } = settings;
  const parts = reading
    ? wholeParts(reading.createParser(), choice.text)
    : { text: choice.text, reasoning: '', calls: [] };
  const text = (settings.echo?.[prompt] ?? '') + parts.text;
  const hasCalls = parts.calls.length > 0;
  return {
    message: {
      role: 'assistant',
      content: hasCalls && text === '' ? null : text,
      refusal: null,
      ...(settings.includeReasoning && parts.reasoning !== '' ? reasoningFields(parts.reasoning) : {}),
      ...(hasCalls ? { tool_calls: parts.calls.map((call) => toolCall(reading?.callId() ?? '', call)) } : {}),
    },
    finish_reason: hasCalls && choice.finish === 'stop' ? 'tool_calls' : choice.finish,
  };
}

/** vLLM's field under its present name and under the one that it and DeepSeek had first: clients read either. */
export function reasoningFields(text: string): object {
  return { reasoning: text, reasoning_content: text };
}

function toolCall(id: string, call: WholeParts['calls'][number]): object {
  return { id, type: 'function', function: call };
}

/** vLLM's `prompt_logprobs`: by token id, the prompt's own token first; nothing for the first token. */
function promptLogprobs({ settings, starts }: FinishedAnswer, prompt: number): object {
  if (settings.promptLogprobs === undefined) return {};
  const entries = starts[prompt]?.promptLogprobs ?? [];
  const tokens = settings.prompts[prompt] ?? new Int32Array();
  const topCount = settings.promptLogprobs;
  const list = Array.from(tokens, (token, place) =>
    promptTokenLogprobs(settings.model.tokenizer, token, entries[place], topCount),
  );
  return { prompt_logprobs: list };
}

/** `text_completion` */
export function textCompletion(answer: FinishedAnswer): object {
  const { settings, starts } = answer;
  const choices = answer.choices.map(({ prompt, choice }, index) => {
    const tokens = settings.promptOnly ? [] : choice.tokens;
    return {
      index,
      text: (settings.echo?.[prompt] ?? '') + (settings.promptOnly ? '' : choice.text),
      logprobs:
        settings.logprobs === undefined
          ? null
          : completionLogprobs(settings, settings.logprobs, prompt, starts[prompt], choice),
      finish_reason: choice.finish,
      stop_reason: choice.stopReason,
      ...(settings.returnTokenIds
        ? { token_ids: tokens, prompt_token_ids: [...(settings.prompts[prompt] ?? [])] }
        : {}),
      ...promptLogprobs(answer, prompt),
    };
  });
  return envelope(answer, 'text_completion', choices);
}

/** The prompt's where it is echoed, then the choice's. */
function completionLogprobs(
  settings: AnswerSettings,
  topCount: number,
  prompt: number,
  start: RequestStart | undefined,
  choice: Choice,
): CompletionLogprobs {
  const { model, echo, prompts, promptOnly, skipSpecialTokens } = settings;
  const builder = new CompletionLogprobsBuilder(model.tokenizer, topCount, skipSpecialTokens);
  const echoed = echo
    ? builder.buildEchoed(prompts[prompt] ?? [], start?.promptLogprobs ?? [], echo[prompt] ?? '')
    : builder.build([], []);
  const generated = promptOnly ? builder.build([], []) : builder.build(choice.tokens, choice.logprobs);
  return {
    tokens: [...echoed.tokens, ...generated.tokens],
    token_logprobs: [...echoed.token_logprobs, ...generated.token_logprobs],
    top_logprobs: [...echoed.top_logprobs, ...generated.top_logprobs],
    text_offset: [...echoed.text_offset, ...generated.text_offset],
  };
}

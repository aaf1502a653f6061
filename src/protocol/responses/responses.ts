import type { NereidError } from '../../base/errors.ts';
import type { GenerationDelta, GenerationUsage } from '../../generation/generation.ts';
import type { AnswerReading } from '../answer-parser.ts';
import type { GatheredAnswer } from '../answering.ts';
import type { ServedModel } from '../served-model.ts';
import { Output, type OutputItem } from './output.ts';
import type { ResponseRequest } from './requests.ts';

/** What all parts of one response carry. */
export interface ResponseSettings {
  /** `resp_…` */
  id: string;
  createdSeconds: number;
  request: ResponseRequest;
  model: ServedModel;
  reading: AnswerReading | undefined;
  /** The sampling in use, which the request may have left to the model. */
  temperature: number;
  topP: number;
  /** The response is done: it may be stored. */
  onDone(response: ResponseObject): void;
}

/** OpenAI's response object. */
export interface ResponseObject {
  id: string;
  status: string;
  output: readonly OutputItem[];
  [field: string]: unknown;
}

/** How a response stands. */
export interface ResponseState {
  status: 'in_progress' | 'completed' | 'incomplete' | 'failed';
  output: readonly OutputItem[];
  usage?: object;
  error?: { code: string; message: string };
}

/** The response object in one of its states. */
export function responseObject(settings: ResponseSettings, state: ResponseState): ResponseObject {
  const { id, createdSeconds, request, model } = settings;
  return {
    id,
    object: 'response',
    created_at: createdSeconds,
    status: state.status,
    background: false,
    error: state.error ?? null,
    incomplete_details: state.status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    max_tool_calls: null,
    model: request.model ?? model.name,
    output: state.output,
    parallel_tool_calls: request.parallel_tool_calls ?? true,
    previous_response_id: request.previous_response_id ?? null,
    reasoning: { effort: request.reasoning?.effort ?? null, summary: null },
    service_tier: 'default',
    store: request.store ?? true,
    temperature: settings.temperature,
    text: request.text?.format ? { ...request.text } : { format: { type: 'text' } },
    tool_choice: request.tool_choice ?? 'auto',
    tools: request.tools ?? [],
    top_logprobs: 0,
    top_p: settings.topP,
    truncation: request.truncation ?? 'disabled',
    usage: state.usage ?? null,
    user: request.user ?? null,
    metadata: request.metadata ?? {},
  };
}

/** Counts as this API words them. */
export function usageOf(usage: GenerationUsage, reasoningTokens: number): object {
  return {
    input_tokens: usage.promptTokens,
    input_tokens_details: { cached_tokens: usage.cachedTokens },
    output_tokens: usage.completionTokens,
    output_tokens_details: { reasoning_tokens: reasoningTokens },
    total_tokens: usage.promptTokens + usage.completionTokens,
  };
}

/** A response that is sent as a whole. */
export class WholeResponse implements GatheredAnswer {
  readonly body: Promise<object>;
  readonly #settings: ResponseSettings;
  readonly #output: Output;
  #finish: 'stop' | 'length' = 'stop';
  #resolve: (body: object) => void = () => {};
  #reject: (error: Error) => void = () => {};

  constructor(settings: ResponseSettings) {
    this.#settings = settings;
    this.#output = new Output(settings.reading, settings.id.slice('resp_'.length));
    this.body = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // The caller may have gone by then.
    this.body.catch(() => {});
  }

  get finishReasons(): string {
    return this.#finish;
  }

  start(): void {}

  delta(_choice: number, delta: GenerationDelta): void {
    this.#output.push(delta.text, delta.tokens.length);
    if (delta.finish) this.#finish = delta.finish;
  }

  end(usage: GenerationUsage): void {
    const status = this.#finish === 'length' ? 'incomplete' : 'completed';
    this.#output.finish(status);
    const { items, reasoningTokens } = this.#output;
    const state: ResponseState = { status, output: items, usage: usageOf(usage, reasoningTokens) };
    const response = responseObject(this.#settings, state);
    this.#settings.onDone(response);
    this.#resolve(response);
  }

  fail(error: NereidError): void {
    this.#reject(error);
  }
}

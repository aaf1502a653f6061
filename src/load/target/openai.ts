import { type HttpAnswer, HttpClient } from './http-client.ts';
import type { AnswerEnd, AnswerListener, Target, TargetRequest, TargetSpec } from './target.ts';

/** The two OpenAI endpoints that answer with text. */
export type OpenAiEndpoint = 'chat' | 'completions';

interface Usage {
  prompt_tokens?: number;
  completion_tokens?: number;
  prompt_tokens_details?: { cached_tokens?: number } | null;
}

interface Choice {
  text?: string;
  delta?: { role?: string; content?: string | null; reasoning_content?: string | null };
  message?: { content?: string | null };
  finish_reason?: string | null;
}

interface Chunk {
  choices?: Choice[];
  usage?: Usage | null;
  error?: { message?: string } | string;
}

const usualPath: Record<OpenAiEndpoint, string> = {
  chat: '/v1/chat/completions',
  completions: '/v1/completions',
};

/** Any server with OpenAI's chat or completions endpoint. */
export class OpenAiTarget implements Target {
  readonly #endpoint: OpenAiEndpoint;
  readonly #spec: TargetSpec;
  readonly #client: HttpClient;
  readonly #path: string;

  constructor(endpoint: OpenAiEndpoint, spec: TargetSpec) {
    this.#endpoint = endpoint;
    this.#spec = spec;
    this.#client = new HttpClient(spec.url, spec.headers, spec.timeoutMs);
    // A base URL may end in /v1 already, as clients of OpenAI write it.
    const usual = usualPath[endpoint];
    this.#path = spec.path ?? (/\/v1\/?$/.test(spec.url) ? usual.slice(3) : usual);
  }

  send(request: TargetRequest, listener: AnswerListener): () => void {
    const body = JSON.stringify(this.#body(request));
    return this.#client.post(this.#path, body, new OpenAiAnswer(listener));
  }

  close(): void {
    this.#client.close();
  }

  #body({ text, tokens, messages, model, outputTokensMax }: TargetRequest): Record<string, unknown> {
    const { streams, sampling, extraBody } = this.#spec;
    return {
      model: model ?? this.#spec.model,
      ...(this.#endpoint === 'chat' ? { messages } : { prompt: tokens ? [...tokens] : text }),
      max_tokens: outputTokensMax,
      stream: streams,
      ...(streams ? { stream_options: { include_usage: true } } : {}),
      ...(sampling.temperature === undefined ? {} : { temperature: sampling.temperature }),
      ...(sampling.topP === undefined ? {} : { top_p: sampling.topP }),
      ...(sampling.topK === undefined ? {} : { top_k: sampling.topK }),
      ...(sampling.seed === undefined ? {} : { seed: sampling.seed }),
      ...(sampling.ignoreEos ? { ignore_eos: true } : {}),
      ...extraBody,
    };
  }
}

/** Reads chunks, or a whole answer, into outputs. */
class OpenAiAnswer implements HttpAnswer {
  readonly #listener: AnswerListener;
  readonly #end: AnswerEnd = {};
  #lastMs = 0;
  #failed = false;

  constructor(listener: AnswerListener) {
    this.#listener = listener;
  }

  data(atMs: number, data: string): void {
    if (data === '[DONE]' || this.#failed) return;
    let chunk: Chunk;
    try {
      chunk = JSON.parse(data) as Chunk;
    } catch {
      this.#fail(atMs, `the answer is no JSON: ${data.slice(0, 200)}`);
      return;
    }
    if (chunk.error) {
      const message = typeof chunk.error === 'string' ? chunk.error : (chunk.error.message ?? 'no message');
      this.#fail(atMs, message);
      return;
    }
    this.#lastMs = atMs;
    const { usage } = chunk;
    if (usage) {
      this.#end.inputTokens = usage.prompt_tokens;
      this.#end.outputTokens = usage.completion_tokens;
      this.#end.cachedTokens = usage.prompt_tokens_details?.cached_tokens;
    }
    const choice = chunk.choices?.[0];
    if (choice) this.#take(atMs, choice);
  }

  end(atMs: number): void {
    if (this.#failed) return;
    // The time of the last chunk with data; `[DONE]` and the end of the body say nothing new.
    this.#listener.end(this.#lastMs || atMs, this.#end);
  }

  fail(atMs: number, reason: string): void {
    if (!this.#failed) this.#fail(atMs, reason);
  }

  /** Every chunk with a choice is an output but the head, which has a role and no text: no token was made for it. */
  #take(atMs: number, choice: Choice): void {
    if (choice.finish_reason) this.#end.finishReason = choice.finish_reason;
    const { delta } = choice;
    const text = choice.text ?? delta?.content ?? delta?.reasoning_content ?? choice.message?.content ?? '';
    if (delta?.role && text === '' && !choice.finish_reason) return;
    this.#listener.output(atMs, text);
  }

  #fail(atMs: number, reason: string): void {
    this.#failed = true;
    this.#listener.fail(atMs, reason);
  }
}

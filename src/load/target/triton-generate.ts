import { HttpClient } from './http-client.ts';
import { usualModel } from './kserve-tensors.ts';
import type { AnswerListener, Target, TargetRequest, TargetSpec } from './target.ts';

interface GenerateAnswer {
  text_output?: string | string[];
  error?: string;
}

/** Triton's HTTP generate extension: `/generate_stream` where the load streams, else `/generate`. */
export class TritonGenerateTarget implements Target {
  readonly #spec: TargetSpec;
  readonly #client: HttpClient;

  constructor(spec: TargetSpec) {
    this.#spec = spec;
    this.#client = new HttpClient(spec.url, spec.headers, spec.timeoutMs);
  }

  send(request: TargetRequest, listener: AnswerListener): () => void {
    const { streams } = this.#spec;
    const model = encodeURIComponent(request.model ?? (this.#spec.model || usualModel(request)));
    const path = this.#spec.path ?? `/v2/models/${model}/${streams ? 'generate_stream' : 'generate'}`;
    let lastMs = 0;
    let failed = false;
    const fail = (atMs: number, reason: string): void => {
      if (failed) return;
      failed = true;
      listener.fail(atMs, reason);
    };
    return this.#client.post(path, JSON.stringify(this.#body(request)), {
      data: (atMs, data) => {
        if (failed) return;
        const answer = parse(data);
        if (answer === undefined || answer.error !== undefined) {
          fail(atMs, answer?.error ?? `the answer is no JSON: ${data.slice(0, 200)}`);
          return;
        }
        lastMs = atMs;
        const text = answer.text_output ?? '';
        listener.output(atMs, Array.isArray(text) ? text.join('') : text);
      },
      end: (atMs) => {
        if (!failed) listener.end(lastMs || atMs, {});
      },
      fail,
    });
  }

  close(): void {
    this.#client.close();
  }

  /** The ensemble's inputs by their TensorRT-LLM names. `end_id` −1 is "none": generation goes on after the model's own. */
  #body({ text, outputTokensMax }: TargetRequest): Record<string, unknown> {
    const { streams, sampling, extraBody } = this.#spec;
    return {
      text_input: text,
      max_tokens: outputTokensMax,
      stream: streams,
      exclude_input_in_output: true,
      ...(sampling.temperature === undefined ? {} : { temperature: sampling.temperature }),
      ...(sampling.topP === undefined ? {} : { top_p: sampling.topP }),
      ...(sampling.topK === undefined ? {} : { top_k: sampling.topK }),
      ...(sampling.seed === undefined ? {} : { seed: sampling.seed }),
      ...(sampling.ignoreEos ? { end_id: -1 } : {}),
      ...extraBody,
    };
  }
}

function parse(data: string): GenerateAnswer | undefined {
  try {
    return JSON.parse(data) as GenerateAnswer;
  } catch {
    return undefined;
  }
}

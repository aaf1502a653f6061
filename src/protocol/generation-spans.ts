import { randomBytes } from 'node:crypto';
import type { GenerationInput, GenerationObserver, GenerationRecord } from '../generation/generation.ts';
import { attributesOf } from './otlp-attributes.ts';
import type { Span } from './request-spans.ts';

/** Generations of one request whose phases become spans; a request of many prompts has more. */
export const tracedGenerationsMax = 8;

/** OTLP's kind of a span within a process. */
const internal = 1;

/** What is known of a request's generations, for its spans: how long they waited, computed and said, and what was asked. No texts. */
export class TracedGenerations {
  readonly #records: GenerationRecord[] = [];
  #asked: Record<string, unknown> = {};

  /** An observer that also tells this. */
  following(
    { inputs, stream }: { inputs: readonly GenerationInput[]; stream: boolean },
    observer: GenerationObserver | undefined,
  ): GenerationObserver {
    const [input] = inputs;
    if (input) this.#asked = askedOf(input, stream);
    return {
      firstToken: (seconds) => observer?.firstToken(seconds),
      interToken: (seconds) => observer?.interToken(seconds),
      finished: (record) => {
        observer?.finished(record);
        if (this.#records.length < tracedGenerationsMax) this.#records.push(record);
      },
    };
  }

  /** For the request's own span; times under the names that vLLM gives them. */
  get attributes(): Record<string, unknown> {
    const [first] = this.#records;
    if (!first) return this.#asked;
    const { queuedSeconds, prefillSeconds, decodeSeconds, endToEndSeconds } = first;
    return {
      ...this.#asked,
      'gen_ai.latency.time_in_queue': queuedSeconds,
      'gen_ai.latency.time_to_first_token':
        decodeSeconds === undefined ? undefined : endToEndSeconds - decodeSeconds,
      'gen_ai.latency.time_in_model_prefill': prefillSeconds,
      'gen_ai.latency.time_in_model_decode': decodeSeconds,
      'gen_ai.latency.e2e': endToEndSeconds,
    };
  }

  /**
   * The phases of each generation that began, one after the other up to its end.
   * @param wallNs a time of the server's clock as OTLP has it
   */
  spans(parent: Span, wallNs: (ns: number) => string): Span[] {
    return this.#records.flatMap((record) => {
      const { endedNs, queuedSeconds, prefillSeconds = 0, decodeSeconds = 0, usage } = record;
      if (queuedSeconds === undefined) return [];
      const decodeNs = endedNs - decodeSeconds * 1e9;
      const prefillNs = decodeNs - prefillSeconds * 1e9;
      const queueNs = prefillNs - queuedSeconds * 1e9;
      const phase = (name: string, start: number, end: number, given: Record<string, unknown>): Span => ({
        traceId: parent.traceId,
        spanId: randomBytes(8).toString('hex'),
        parentSpanId: parent.spanId,
        name,
        kind: internal,
        startTimeUnixNano: wallNs(start),
        endTimeUnixNano: wallNs(end),
        attributes: attributesOf(given),
        status: { code: 0 },
      });
      return [
        phase('queue', queueNs, prefillNs, {}),
        phase('prefill', prefillNs, decodeNs, {
          'gen_ai.usage.input_tokens': usage.promptTokens,
          'gen_ai.usage.cache_read.input_tokens': usage.cachedTokens,
        }),
        phase('decode', decodeNs, endedNs, { 'gen_ai.usage.output_tokens': usage.completionTokens }),
      ];
    });
  }
}

function askedOf(
  { sampling, maxTokens, sequences }: GenerationInput,
  stream: boolean,
): Record<string, unknown> {
  return {
    'gen_ai.output.type': 'text',
    'gen_ai.request.stream': stream,
    'gen_ai.request.max_tokens': maxTokens,
    'gen_ai.request.choice.count': sequences === 1 ? undefined : sequences,
    'gen_ai.request.temperature': sampling.temperature,
    'gen_ai.request.top_p': sampling.topP,
    'gen_ai.request.top_k': sampling.topK === 0 ? undefined : sampling.topK,
    'gen_ai.request.frequency_penalty': sampling.frequencyPenalty,
    'gen_ai.request.presence_penalty': sampling.presencePenalty,
    'gen_ai.request.seed': sampling.seed,
  };
}

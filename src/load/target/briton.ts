import { Metadata } from '@grpc/grpc-js';
import { monotonicMs } from '../../base/monotonic.ts';
import type { IncrementalDecoder, Tokenizer } from '../../tokenizer/types.ts';
import { callError, GrpcChannels, onCallEnd } from './grpc-channels.ts';
import { protoMessages } from './proto-messages.ts';
import type { AnswerListener, Target, TargetRequest, TargetSpec } from './target.ts';

interface AnswerPart {
  output_text?: string;
  output_ids?: number[];
  finish_reason?: number;
}

/** Its names of why an answer ended, by number. */
const finishReasons = ['', 'end_id', 'stop_words', 'length'];

/** Top-k that keeps every token but the unlikeliest, where temperature or top-p ask for draws: without top-k and top-p Briton is greedy. */
const drawAll = 0;

/** A Briton server over gRPC: one call a request, its parts as outputs with their ids counted. */
export class BritonTarget implements Target {
  readonly #spec: TargetSpec;
  readonly #channels: GrpcChannels;
  readonly #messages = protoMessages('briton.proto', 'briton.InferenceRequest', 'briton.InferenceAnswerPart');
  readonly #metadata = new Metadata();
  readonly #detokenizer: Tokenizer | undefined;
  #requests = 0;

  /** @param detokenizer turns ids into text in this client, as Python serving layers do; absent: the server's text is taken */
  constructor(spec: TargetSpec, detokenizer?: Tokenizer) {
    this.#spec = spec;
    this.#channels = new GrpcChannels(spec.url, spec.channels);
    this.#detokenizer = detokenizer;
    for (const [name, value] of Object.entries(spec.headers)) this.#metadata.set(name, value);
  }

  send(request: TargetRequest, listener: AnswerListener): () => void {
    const { encode, decode } = this.#messages;
    const deadline = this.#spec.timeoutMs > 0 ? Date.now() + this.#spec.timeoutMs : undefined;
    const call = this.#channels
      .next()
      .makeServerStreamRequest<object, AnswerPart>(
        '/briton.Briton/Infer',
        encode,
        decode,
        this.#message(request),
        this.#metadata,
        deadline === undefined ? {} : { deadline },
      );
    const decoder: IncrementalDecoder | undefined = this.#detokenizer?.incrementalDecoder({
      continuation: true,
    });
    let finishReason: string | undefined;
    let tokens = 0;
    let lastMs = 0;
    let over = false;
    call.on(
      'data',
      ({ output_text: text = '', output_ids: ids = [], finish_reason: finish = 0 }: AnswerPart) => {
        lastMs = monotonicMs();
        tokens += ids.length;
        if (finish > 0) finishReason = finishReasons[finish];
        const own = decoder ? ids.map((id) => decoder.push(id)).join('') : text;
        listener.output(lastMs, own, ids.length);
      },
    );
    call.on('error', (error) => {
      if (!over) listener.fail(monotonicMs(), callError(error));
      over = true;
    });
    onCallEnd(call, () => {
      if (!over) listener.end(lastMs || monotonicMs(), { outputTokens: tokens, finishReason });
    });
    return () => {
      over = true;
      call.cancel();
    };
  }

  close(): void {
    this.#channels.close();
  }

  #message({ text, tokens, outputTokensMax }: TargetRequest): object {
    const { sampling } = this.#spec;
    const draws =
      (sampling.temperature ?? 0) > 0 && sampling.topK === undefined && sampling.topP === undefined;
    // The process id's digits and a counter: unique over the workers of one server's clients.
    const id = Number(`${process.pid}${String(this.#requests++).padStart(7, '0')}`);
    return {
      request_id: id,
      ...(tokens ? { input_ids: [...tokens] } : { input_text: text }),
      request_output_len: outputTokensMax,
      ...(sampling.temperature === undefined ? {} : { temperature: sampling.temperature }),
      ...(sampling.topP === undefined ? {} : { runtime_top_p: sampling.topP }),
      ...(sampling.topK === undefined
        ? draws
          ? { runtime_top_k: drawAll }
          : {}
        : { runtime_top_k: sampling.topK }),
      ...(sampling.seed === undefined ? {} : { random_seed: sampling.seed }),
    };
  }
}

import { createHash } from 'node:crypto';
import type { EngineClient } from '../runtime/client.ts';
import type { AdapterReference, Pooling, SamplingParameters } from '../runtime/requests/request.ts';
import { type ChatInput, renderChat } from '../tokenizer/chat-template.ts';
import type { EncodeOptions, Tokenizer } from '../tokenizer/types.ts';
import type { AnswerFormats } from './answer-parser.ts';
import { ProtocolError } from './errors.ts';

/** What a request gets when it does not say: the checkpoint's generation_config.json over the protocol's own defaults. */
export type GenerationDefaults = Partial<
  Pick<SamplingParameters, 'temperature' | 'topK' | 'topP' | 'minP' | 'repetitionPenalty'>
> & {
  /** generation_config's `max_new_tokens`. */
  maxTokens?: number;
};

/** A model as the network sees it: an engine (or a pool of them) with the text side that engines know nothing of. */
export interface ServedModel {
  readonly name: string;
  /** Other names it answers to. */
  readonly aliases: readonly string[];
  readonly client: EngineClient;
  /** The LoRA adapter that it is of `parent`; where its files lie is `root`. */
  readonly adapter?: AdapterReference;
  readonly parent?: string;
  readonly root?: string;
  readonly tokenizer: Tokenizer;
  readonly defaults: GenerationDefaults;
  /** Jinja source; absent for base models, which then answer no chats. */
  readonly chatTemplate?: string;
  /** How its answers show calls to tools, and reasoning. */
  readonly formats: AnswerFormats;
  /** How embeddings are made where a request does not say. */
  readonly pooling: Pooling;
  /** Seconds since the epoch (OpenAI's `created`). */
  readonly createdSeconds: number;
  /** As in `TextModel`. */
  readonly streamInterval?: number;
  /** Changes when what the model answers may change (OpenAI's `system_fingerprint`). */
  readonly fingerprint: string;
  /**
   * Text to ids; long texts off the event loop.
   * @throws ProtocolError CONTEXT_LENGTH_EXCEEDED for a text that is surely over `tokensMax`, before any work
   */
  encode(text: string, options?: TextOptions): Promise<Int32Array>;
  /** A chat through a template, off the event loop where the server has threads for it. @throws as `renderChat` */
  renderChat(template: string | undefined, input: ChatInput, signal?: AbortSignal): Promise<string>;
}

/** How {@link ServedModel.encode} encodes, for whom and how much. */
export interface TextOptions extends EncodeOptions {
  /** Most tokens of use. Default: the context's length. */
  tokensMax?: number;
  /** Whoever waits is gone. */
  signal?: AbortSignal;
}

/** What {@link servedModel} is made of. */
export interface ServedModelOptions {
  name: string;
  aliases?: readonly string[];
  client: EngineClient;
  tokenizer: Tokenizer;
  defaults?: GenerationDefaults;
  /** Default: the tokenizer's. */
  chatTemplate?: string;
  /** Default: answers are text. */
  formats?: AnswerFormats;
  /** Default: the last token's hidden state, as vLLM does for causal models. */
  pooling?: Pooling;
  createdSeconds: number;
  /** As in `TextModel`. */
  streamInterval?: number;
  /** A hash of the weights and what else makes the answers (`contentHash` of the builder). Without it only their size is in the fingerprint. */
  contentHash?: string;
  /** Encodes long texts off the event loop (`EncodePool` of the tokenizer layer). Default: the tokenizer itself. */
  encode?: (text: string, options?: EncodeOptions, signal?: AbortSignal) => Promise<Int32Array>;
  /** Renders chats where a template can be stopped (`TemplatePool` of the tokenizer layer). Default: here and now. */
  renderChat?: ServedModel['renderChat'];
}

/** Fills in what {@link ServedModelOptions} leaves out. */
export function servedModel(options: ServedModelOptions): ServedModel {
  const { name, client, tokenizer } = options;
  const { device, vocabularySize, contextLength, weightBytes } = client.description;
  const identity = JSON.stringify([
    name,
    device,
    vocabularySize,
    contextLength,
    options.contentHash ?? weightBytes,
  ]);
  return {
    name,
    aliases: options.aliases ?? [],
    client,
    tokenizer,
    defaults: options.defaults ?? {},
    chatTemplate: options.chatTemplate ?? tokenizer.chatTemplate,
    formats: options.formats ?? {},
    pooling: options.pooling ?? 'last',
    createdSeconds: options.createdSeconds,
    streamInterval: options.streamInterval,
    fingerprint: `fp_${createHash('sha256').update(identity).digest('hex').slice(0, 12)}`,
    encode: async (text, { tokensMax = client.description.contextLength, signal, ...encodeOptions } = {}) => {
      boundText(text, tokensMax, tokenizer);
      return options.encode
        ? options.encode(text, encodeOptions, signal)
        : tokenizer.encode(text, encodeOptions);
    },
    renderChat: options.renderChat ?? (async (template, input) => renderChat(template, input)),
  };
}

/** Length is known before anything is encoded: a hopeless text costs nothing. */
function boundText(text: string, tokensMax: number, { unitsPerTokenMax }: Tokenizer): void {
  if (unitsPerTokenMax === undefined || text.length <= tokensMax * unitsPerTokenMax) return;
  const tokensMin = Math.ceil(text.length / unitsPerTokenMax);
  // Begins as OpenAI's own message does; see token-limit.ts.
  const message = `This model's maximum context length is ${tokensMax} tokens. However, your text of ${text.length} characters is at least ${tokensMin} tokens; shorten it (context_length_exceeded)`;
  throw new ProtocolError('CONTEXT_LENGTH_EXCEEDED', message);
}

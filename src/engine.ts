import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { ensureEngine } from './artifact/resolver.ts';
import { definite, type NereidError } from './base/errors.ts';
import { type BuildRecipe, defaultRecipe } from './builder/config.ts';
import { contentHash } from './builder/engine-folder.ts';
import type { EngineManifest } from './builder/manifest.ts';
import { openEngine } from './builder/open-engine.ts';
import { type Reporter, silentReporter } from './builder/reporter.ts';
import { deviceOf } from './builder/targets.ts';
import type { DeviceModelSource, KvDtype } from './device/device.ts';
import { DeltaQueue } from './generation/delta-queue.ts';
import { type EmbedOptions, embedAll } from './generation/embed.ts';
import { Generation, type GenerationDelta, type GenerationUsage } from './generation/generation.ts';
import { generationDefaults } from './protocol/generation-defaults.ts';
import { type ServedModel, servedModel } from './protocol/served-model.ts';
import type { EngineClient } from './runtime/client.ts';
import { RuntimeError } from './runtime/errors.ts';
import { type GuideWish, guideOfWish } from './runtime/guidance/grammar/wish.ts';
import type { Retention } from './runtime/kv/retention.ts';
import { LocalEngine } from './runtime/local-engine.ts';
import { type EngineSizes, loadModel } from './runtime/process/load-model.ts';
import { EngineSupervisor } from './runtime/process/supervisor.ts';
import {
  type DraftTokens,
  greedySampling,
  type RequestReturns,
  type RequestSpeculation,
  type SamplingParameters,
} from './runtime/requests/request.ts';
import type { NgramLengths } from './runtime/speculation/ngram-lengths.ts';
import type { SpeculationSettings } from './runtime/speculation/settings.ts';
import type { SpeculationOptions } from './runtime/speculation/speculation.ts';
import { type ChatMessage, renderChatFor } from './tokenizer/chat-template.ts';
import { openTokenizer } from './tokenizer/open.ts';

/** How {@link Engine.open} loads a model. Every field has a default. */
export interface EngineOptions {
  /**
   * `process` (default): the engine runs in a child process of its own, restarted if it dies; nothing of it can block or crash
   * yours. `none`: it runs in this process and blocks its event loop while a step computes.
   */
  isolation?: 'process' | 'none';
  /** A device's registry name; default what the engine was built for (`ggml`). */
  device?: string;
  deviceOptions?: Record<string, string>;
  /** CPU threads; default all cores. */
  threads?: number;
  /** Sequences in flight at most; default 16. */
  maxSequences?: number;
  /** Token budget of one step; default 512. */
  maxBatchTokens?: number;
  /** Default: what the machine can spare. */
  kvCacheBytes?: number;
  /** Type of the KV cache; default the engine's. */
  kvDtype?: KvDtype;
  /** Positions a sequence, if less than the model's own. */
  contextLength?: number;
  /** Whether prompts reuse the KV of others with the same prefix; default true. */
  prefixReuse?: boolean;
  /** Positions of a KV block; default the device's own choice (on ggml a slot a sequence). */
  kvBlockPositions?: number;
  /** Host memory that evicted KV blocks move to, on devices with blocks; default none. */
  kvHostCacheBytes?: number;
  /** Memory for the logits and hidden states of requests under way; default 512 MiB. */
  outputBytesMax?: number;
  /** Steps launched before the first is read, on devices that can; default 2, 1 is the plain loop. */
  stepsInFlight?: number;
  /** How tokens are guessed ahead; texts stay the same. Default: not at all. */
  speculation?: EngineSpeculation;
  /** How the engine is built where it is not there yet. */
  recipe?: Partial<BuildRecipe>;
  /** Hears about downloads and builds. */
  reporter?: Reporter;
  signal?: AbortSignal;
}

/** Guessing tokens ahead: by what the text repeats, or by a smaller model with the same tokenizer. */
export type EngineSpeculation = {
  /** Drafts of a sequence in a step at most; default 7. */
  draftsMax?: number;
} & (
  | { method: 'ngram'; lookup?: NgramLengths }
  /** An engine folder, file, folder or name, as the model is given. */
  | { method: 'draft-model'; model: string }
  /** The folder of a head that was trained for the model (EAGLE). */
  | { method: 'draft-head'; head: string }
);

/** One generation's wishes; what is left out is the model's own advice (generation_config.json), then plain sampling. */
export interface GenerateOptions extends Partial<SamplingParameters> {
  /** Default: what the context has room for. */
  maxTokens?: number;
  minTokens?: number;
  stop?: readonly string[];
  /** Parallel answers; a delta's `sequence` says whose it is. */
  sequences?: number;
  /** Top log-probabilities with each token. */
  logprobs?: number;
  /** Ids that end a sequence, beside the model's own. */
  stopTokenIds?: readonly number[];
  /** Goes on after the model's own end of text. */
  ignoreEos?: boolean;
  /** Leaves the stop string in the text. */
  includeStopString?: boolean;
  /** Default true. */
  skipSpecialTokens?: boolean;
  /** What the text must look like: JSON, of a schema, a regex, one of some texts, EBNF. */
  guide?: GuideWish;
  /** Requests with different salts share no prefix. */
  cacheSalt?: string;
  /** How long its KV should be kept for others, and how dear it is. */
  retention?: Retention;
  /** Logits to show beside the text: a delta's `outputs` holds them. */
  returns?: Pick<RequestReturns, 'contextLogits' | 'generationLogits'>;
  /** What the text may be like: where it repeats this, it is made faster. */
  prediction?: string | Int32Array;
  /** Tokens that come next, as somebody else guesses, with or without what they were drawn from. */
  draft?: DraftTokens;
  /** Drafts at once, or none (0), and n-gram lookup for this one. */
  speculation?: RequestSpeculation;
  /** Higher first. */
  priority?: number;
  signal?: AbortSignal;
}

/** A running generation: iterate over it for the deltas as they are made, or await {@link text}. Leaving the loop cancels it. */
export interface GenerationStream extends AsyncIterable<GenerationDelta> {
  /** The whole text of sequence 0. */
  text(): Promise<string>;
  /** Known once the deltas are through. */
  readonly usage: GenerationUsage | undefined;
}

/**
 * A model, ready to generate: Nereid as a library, over the same client API that the servers use.
 *
 * ```ts
 * const engine = await Engine.open('smollm2-135m-instruct');
 * for await (const { text } of engine.chat([{ role: 'user', content: 'Hello!' }], { maxTokens: 64 })) process.stdout.write(text);
 * await engine.close();
 * ```
 */
export class Engine {
  /** The model with its client and tokenizer, as the protocols take it. */
  readonly model: ServedModel;
  readonly #close: () => Promise<void>;

  private constructor(model: ServedModel, close: () => Promise<void>) {
    this.model = model;
    this.#close = close;
  }

  /**
   * Opens an engine folder, a `.gguf`, a Hugging Face folder, a hub name or a catalogue name, building the engine first where needed.
   * @throws NereidError from the resolver, the builder or the device, with the fix in its message
   */
  static async open(reference: string, options: EngineOptions = {}): Promise<Engine> {
    const { reporter = silentReporter, signal, threads = availableParallelism() } = options;
    const recipe = { ...options.recipe };
    const { folder, name } = await ensureEngine(reference, { reporter, signal, recipe, threads });
    const start = options.isolation === 'none' ? startLocal : startProcess;
    const speculation = await settingsOf(options, { reporter, signal, threads });
    const started = await start(folder, name, { ...options, threads, settings: speculation });
    try {
      const tokenizer = await openTokenizer(started.tokenizerFolder);
      const defaults = await generationDefaults(started.tokenizerFolder);
      const createdSeconds = Math.floor(Date.now() / 1000);
      const { client, contentHash } = started;
      const model = servedModel({ name, client, tokenizer, defaults, contentHash, createdSeconds });
      return new Engine(model, started.close);
    } catch (thrown) {
      await started.close();
      throw thrown;
    }
  }

  /** Continues a text. Token ids are taken as they are. @throws RuntimeError, TokenizerError */
  generate(prompt: string | Int32Array, options: GenerateOptions = {}): GenerationStream {
    checkGenerate(prompt, options);
    const tokens = typeof prompt === 'string' ? this.model.tokenizer.encode(prompt) : Int32Array.from(prompt);
    return new QueuedGeneration(this.model, tokens, options);
  }

  /** Answers a conversation through the model's chat template. @throws TokenizerError `CHAT_TEMPLATE_*`, RuntimeError */
  chat(messages: readonly ChatMessage[], options: GenerateOptions = {}): GenerationStream {
    checkChat(messages);
    const { tokenizer, chatTemplate } = this.model;
    const text = renderChatFor(tokenizer, chatTemplate, {
      messages: [...messages],
      addGenerationPrompt: true,
    });
    return this.generate(tokenizer.encode(text, { addSpecialTokens: false }), options);
  }

  /**
   * Texts as vectors, one for each; a single text gives a list of one.
   * @throws RuntimeError, TokenizerError
   */
  async embed(
    input: string | Int32Array | readonly (string | Int32Array)[],
    options: EmbedOptions = {},
  ): Promise<Float32Array[]> {
    const list = typeof input === 'string' || input instanceof Int32Array ? [input] : input;
    checkEmbed(list, options, this.model.client.description.hiddenWidth);
    const inputs = list.map((one) =>
      typeof one === 'string' ? this.model.tokenizer.encode(one) : Int32Array.from(one),
    );
    return embedAll(this.model, inputs, options);
  }

  close(): Promise<void> {
    return this.#close();
  }
}

/** TypeScript refuses these; JavaScript does not, and deep inside they would be a puzzle. @throws RuntimeError REQUEST_INVALID */
function checkGenerate(prompt: unknown, options: unknown): void {
  const isTokens = prompt instanceof Int32Array || (Array.isArray(prompt) && prompt.every(Number.isInteger));
  if (typeof prompt !== 'string' && !isTokens) {
    throw misuse(
      `the prompt is ${kindOf(prompt)}; give a text or token ids: generate('Hello', { maxTokens: 16 })`,
    );
  }
  if (typeof options !== 'object' || options === null) {
    throw misuse(`the options are ${kindOf(options)}; give an object: generate('Hello', { maxTokens: 16 })`);
  }
  const { stop } = options as { stop?: unknown };
  if (stop !== undefined && !(Array.isArray(stop) && stop.every((one) => typeof one === 'string'))) {
    throw misuse(`stop is ${kindOf(stop)}; give a list of texts: ['\\n']`);
  }
}

function checkEmbed(input: unknown, { dimensions }: EmbedOptions, width: number): void {
  const isInput = (one: unknown) => typeof one === 'string' || one instanceof Int32Array;
  if (!(Array.isArray(input) && input.every(isInput))) {
    throw misuse(`the input is ${kindOf(input)}; give a text, token ids (Int32Array) or a list of them`);
  }
  if (dimensions === undefined || width === 0) return;
  if (Number.isInteger(dimensions) && dimensions >= 1 && dimensions <= width) return;
  throw misuse(`dimensions is ${dimensions}; embeddings of this model have ${width}: ask for 1 to ${width}`);
}

function checkChat(messages: unknown): void {
  if (Array.isArray(messages) && messages.every((one) => typeof one === 'object' && one !== null)) return;
  throw misuse(
    `the messages are ${kindOf(messages)}; give a list: chat([{ role: 'user', content: 'Hello' }])`,
  );
}

function kindOf(value: unknown): string {
  return Array.isArray(value)
    ? 'a list of something else'
    : value === null
      ? 'null'
      : `of type ${typeof value}`;
}

function misuse(message: string): RuntimeError {
  return new RuntimeError('REQUEST_INVALID', message);
}

interface StartedEngine {
  client: EngineClient;
  tokenizerFolder: string;
  contentHash: string | undefined;
  close: () => Promise<void>;
}

type SettledOptions = EngineOptions & { threads: number; settings: SpeculationSettings | undefined };

/** What the engine is told of guessing; a draft model is fetched and built like the model itself. */
async function settingsOf(
  { speculation }: EngineOptions,
  how: { reporter: Reporter; signal: AbortSignal | undefined; threads: number },
): Promise<SpeculationSettings | undefined> {
  if (!speculation) return undefined;
  const { method, draftsMax } = speculation;
  if (method === 'ngram') return { method, draftsMax, lengths: speculation.lookup };
  if (method === 'draft-head') return { method, draftsMax, headFolder: resolve(speculation.head) };
  const { folder } = await ensureEngine(speculation.model, how);
  return { method, draftsMax, engineFolder: folder };
}

async function startProcess(folder: string, name: string, options: SettledOptions): Promise<StartedEngine> {
  const { manifest, tokenizerFolder, source } = await openEngine(folder);
  const supervisor = await EngineSupervisor.start({
    name,
    engineFolder: folder,
    tokenizerFolder,
    nullModel: { vocabularySize: source.vocabularySize, contextLength: source.contextLength },
    kvDtype: options.kvDtype ?? manifest?.kvDtype ?? defaultRecipe.kvDtype,
    ...sizes(options, manifest),
  });
  return {
    client: supervisor.client,
    tokenizerFolder: definite(tokenizerFolder, 'the tokenizer folder'),
    contentHash: manifest && contentHash(manifest),
    close: () => supervisor.close(),
  };
}

async function startLocal(folder: string, name: string, options: SettledOptions): Promise<StartedEngine> {
  const { manifest, tokenizerFolder, source } = await openEngine(folder);
  const kvDtype = options.kvDtype ?? manifest?.kvDtype ?? defaultRecipe.kvDtype;
  const own = { kvDtype, ...sizes(options, manifest) };
  const speculation = await speculationOf(options.settings, source, own);
  const { device, model, options: core } = await loadModel(name, source, own);
  const unload = (): void => {
    model.close();
    device.close();
  };
  let local: LocalEngine;
  try {
    const vocabulary = tokenizerFolder === undefined ? undefined : { folder: tokenizerFolder };
    local = new LocalEngine(model, { ...core, vocabulary, speculation });
  } catch (thrown) {
    unload();
    throw thrown;
  }
  const close = (): Promise<void> => local.close().then(unload);
  return {
    client: local,
    tokenizerFolder: definite(tokenizerFolder, 'the tokenizer folder'),
    contentHash: manifest && contentHash(manifest),
    close,
  };
}

/** Loaded before the model, which takes what memory is left. */
async function speculationOf(
  settings: SpeculationSettings | undefined,
  source: DeviceModelSource,
  own: EngineSizes,
): Promise<SpeculationOptions | undefined> {
  if (!settings) return undefined;
  const { loadSpeculation } = await import('./runtime/process/load-speculation.ts');
  return loadSpeculation(settings, source, await draftSourceOf(settings, source), own);
}

async function draftSourceOf(
  settings: SpeculationSettings,
  target: DeviceModelSource,
): Promise<DeviceModelSource | undefined> {
  if (settings.method === 'draft-head' && settings.headFolder !== undefined) {
    const { openDraftHead } = await import('./builder/open-draft-head.ts');
    return openDraftHead(settings.headFolder, target);
  }
  const folder = settings.method === 'draft-model' ? settings.engineFolder : undefined;
  return folder === undefined ? undefined : (await openEngine(folder)).source;
}

function sizes(options: SettledOptions, manifest?: EngineManifest) {
  const built = manifest ? deviceOf(manifest) : { name: 'ggml', options: {} };
  const device = options.device ?? built.name;
  return {
    device,
    deviceOptions: { ...(device === built.name && built.options), ...options.deviceOptions },
    threads: options.threads,
    slots: options.maxSequences ?? 16,
    batchTokensMax: options.maxBatchTokens ?? 512,
    kvBytesMax: options.kvCacheBytes,
    contextLength: options.contextLength,
    prefixReuse: options.prefixReuse ?? true,
    kvBlockPositions: options.kvBlockPositions,
    kvHostBytesMax: options.kvHostCacheBytes,
    outputBytesMax: options.outputBytesMax,
    inFlightStepsMax: options.stepsInFlight,
    speculation: options.settings,
  };
}

/** Turns a generation's callbacks into an async iteration. */
class QueuedGeneration implements GenerationStream {
  readonly #deltas = new DeltaQueue();
  readonly #generation: Generation;
  readonly #signal: AbortSignal | undefined;
  #wake: (() => void) | undefined;
  #ended = false;
  #error: NereidError | undefined;
  usage: GenerationUsage | undefined;

  constructor(model: ServedModel, promptTokens: Int32Array, options: GenerateOptions) {
    const { signal, maxTokens, minTokens, stop, sequences, logprobs, ...rest } = options;
    const { stopTokenIds, ignoreEos, includeStopString, skipSpecialTokens, ...others } = rest;
    const { cacheSalt, retention, returns, priority, guide, prediction, draft, speculation, ...given } =
      others;
    const { maxTokens: advised, ...advice } = model.defaults;
    // At least 1, so that a prompt that fills the context is refused for that and not for its maxTokens.
    const room = Math.max(1, model.client.description.contextLength - promptTokens.length);
    this.#signal = signal;
    this.#generation = new Generation(
      model,
      {
        promptTokens,
        sampling: { ...greedySampling, temperature: 1, ...advice, ...withoutUndefined(given) },
        maxTokens: maxTokens ?? Math.min(room, advised ?? room),
        minTokens: minTokens ?? 0,
        stopTokenIds: stopTokenIds ?? [],
        ignoreEos: ignoreEos ?? false,
        stopStrings: stop ?? [],
        includeStopString: includeStopString ?? false,
        skipSpecialTokens: skipSpecialTokens ?? true,
        sequences: sequences ?? 1,
        logprobs,
        cacheSalt,
        guide: guide && guideOfWish(guide),
        retention,
        returns,
        prediction: typeof prediction === 'string' ? model.tokenizer.encode(prediction) : prediction,
        draft,
        speculation,
        priority: priority ?? 0,
      },
      {
        delta: (delta) => this.#push(delta),
        end: (usage) => this.#end(usage),
        fail: (error) => this.#end(undefined, error),
      },
    );
    signal?.addEventListener('abort', this.#abort, { once: true });
    if (signal?.aborted) this.#abort();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GenerationDelta> {
    try {
      for (;;) {
        const delta = this.#deltas.take();
        if (delta) yield delta;
        else if (this.#error) throw this.#error;
        else if (this.#ended) return;
        else
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      }
    } finally {
      this.#generation.cancel();
      this.#signal?.removeEventListener('abort', this.#abort);
    }
  }

  async text(): Promise<string> {
    let text = '';
    for await (const delta of this) if (delta.sequence === 0) text += delta.text;
    return text;
  }

  #push(delta: GenerationDelta): void {
    this.#deltas.push(delta);
    this.#wake?.();
  }

  #end(usage: GenerationUsage | undefined, error?: NereidError): void {
    this.#signal?.removeEventListener('abort', this.#abort);
    this.#ended = true;
    this.usage = usage;
    this.#error = error;
    this.#wake?.();
  }

  readonly #abort = (): void => {
    if (this.#ended) return;
    this.#generation.cancel();
    this.#end(this.#generation.usage, this.#signal?.reason);
  };
}

/** Absent and undefined are the same to a caller; a spread must not let the latter hide a default. */
function withoutUndefined<T extends object>(record: T): Partial<T> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as Partial<T>;
}

import { definite } from '../../base/errors.ts';
import { Generation, type GenerationDelta, type GenerationUsage } from '../../generation/generation.ts';
import type { RequestStart } from '../../runtime/requests/events.ts';
import { EncodePool } from '../../tokenizer/encode-pool.ts';
import { openTokenizer } from '../../tokenizer/open.ts';
import type { BackendContext, DirectBackend } from '../backend.ts';
import { instanceCount } from '../config/complete.ts';
import type { ModelConfig } from '../config/types.ts';
import { TokenLengths } from '../engine/token-lengths.ts';
import type { EngineLease } from '../engine-host.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import { bytesTensor, type Tensor, tensorOf } from '../tensor.ts';
import { adapterOf, generationOf, promptOf, truthOf } from './request.ts';
import { readSettings } from './settings.ts';

/** Batch size and decoupling stand in 1/model.yaml; they count in every mode (the stock launcher loses them). */
export async function autoComplete(
  config: ModelConfig,
  { folder, versions }: { folder: string; versions: readonly string[] },
): Promise<void> {
  const { triton_config: server } = await readSettings(`${folder}/${versions.at(-1) ?? '1'}`);
  config.max_batch_size = server.max_batch_size;
  config.model_transaction_policy = { decoupled: server.decoupled };
}

/**
 * TensorRT-LLM's `llmapi` model: text in, text out, one engine that `1/model.yaml` describes.
 * @throws RepositoryError, or what keeps the engine from starting
 */
export async function load(context: BackendContext): Promise<DirectBackend> {
  const { config, name, version } = context;
  const settings = await readSettings(context.versionFolder);
  const cache = settings.kv_cache_config;
  const specification = {
    key: '',
    name,
    source: settings.model,
    engines: Math.max(1, instanceCount(config)),
    capacityPolicy: 'guaranteed_no_evict',
    prefixReuse: cache?.enable_block_reuse ?? true,
    kvTokensMax: cache?.max_tokens,
    kvMemoryShare: cache?.free_gpu_memory_fraction,
    sequencesMax: settings.max_batch_size,
  };
  specification.key = `${name}/${version}: ${JSON.stringify(specification)}`;
  const lease = await context.engines.acquire(specification);
  try {
    const model = await LlmModel.open(context, lease);
    return {
      kind: 'direct',
      start: (execution) => model.start(execution),
      engine: {
        client: lease.client,
        tokenizerFolder: lease.tokenizerFolder,
        isInflight: true,
        inputTokens: model.inputTokens,
        outputTokens: model.outputTokens,
      },
      close: () => model.close(),
    };
  } catch (thrown) {
    await lease.release();
    throw thrown;
  }
}

/** The requests of one model. */
class LlmModel {
  readonly inputTokens = new TokenLengths();
  readonly outputTokens = new TokenLengths();
  readonly #context: BackendContext;
  readonly #lease: EngineLease;
  readonly #pool: EncodePool;
  readonly #tokenizer: Awaited<ReturnType<typeof openTokenizer>>;
  /** By request id, for stop requests. */
  readonly #byId = new Map<string, LlmRun>();

  private constructor(
    context: BackendContext,
    lease: EngineLease,
    tokenizer: Awaited<ReturnType<typeof openTokenizer>>,
  ) {
    this.#context = context;
    this.#lease = lease;
    this.#tokenizer = tokenizer;
    this.#pool = new EncodePool(tokenizer);
  }

  static async open(context: BackendContext, lease: EngineLease): Promise<LlmModel> {
    return new LlmModel(context, lease, await openTokenizer(lease.tokenizerFolder));
  }

  start(execution: Execution): void {
    const { id } = execution.request;
    if (truthOf(execution, 'stop')) {
      if (id === '') {
        throw new RepositoryError(
          'INVALID_ARGUMENT',
          'A request id must be provided for request cancellation',
        );
      }
      this.#byId.get(id)?.stop();
      execution.respond({ outputs: [] }, true);
      return;
    }
    const isDecoupled = this.#context.config.model_transaction_policy?.decoupled ?? false;
    const isStreaming = truthOf(execution, 'streaming');
    if (isStreaming && !isDecoupled) {
      throw new RepositoryError('INVALID_ARGUMENT', 'Streaming is only supported in decoupled mode.');
    }
    const prompt = promptOf(execution);
    const { kvChunkPositions } = this.#lease.client.description;
    const run = new LlmRun(execution, isStreaming, prompt, kvChunkPositions);
    if (id !== '') this.#byId.set(id, run);
    const { onOver } = execution;
    execution.onOver = () => {
      if (this.#byId.get(id) === run) this.#byId.delete(id);
      onOver?.();
    };
    execution.onCancel = () => run.cancel();
    this.#pool.encode(prompt).then(
      (tokens) => this.#submit(execution, run, tokens),
      (thrown: unknown) => execution.fail(thrown),
    );
  }

  async close(): Promise<void> {
    await this.#pool.close();
    await this.#lease.release();
  }

  #submit(execution: Execution, run: LlmRun, tokens: Int32Array): void {
    if (execution.isOver) return;
    try {
      const { client } = this.#lease;
      const adapter = adapterOf(execution, client.adapters);
      const text = { client, tokenizer: this.#tokenizer, ...(adapter && { adapter }) };
      const generation = new Generation(
        text,
        generationOf(execution, tokens),
        run.listener((usage) => {
          this.inputTokens.add(usage.promptTokens);
          this.outputTokens.add(usage.completionTokens);
        }),
      );
      run.attach(generation);
      const { onOver } = execution;
      execution.onOver = () => {
        const { promptTokens, completionTokens } = generation.usage;
        execution.request.onTokens?.(promptTokens + completionTokens);
        onOver?.();
      };
    } catch (thrown) {
      execution.fail(thrown);
    }
  }
}

/** One request. */
class LlmRun {
  readonly #execution: Execution;
  readonly #isStreaming: boolean;
  readonly #prefix: string;
  readonly #blockPositions: number;
  #generation: Generation | undefined;
  #text = '';
  #logprob = 0;
  #cached = 0;

  /** @param blockPositions of the engine's KV cache */
  constructor(execution: Execution, isStreaming: boolean, prompt: string, blockPositions: number) {
    this.#execution = execution;
    this.#isStreaming = isStreaming;
    this.#blockPositions = blockPositions;
    const excludes = execution.input('sampling_param_exclude_input_from_output');
    this.#prefix = excludes && !truthOf(execution, 'sampling_param_exclude_input_from_output') ? prompt : '';
  }

  attach(generation: Generation): void {
    this.#generation = generation;
  }

  cancel(): void {
    this.#generation?.cancel();
  }

  /** Ends it with what it has. */
  stop(): void {
    this.cancel();
    this.#respond('', 'cancelled', undefined, true);
  }

  listener(ended: (usage: GenerationUsage) => void) {
    return {
      start: (start: RequestStart) => {
        this.#cached = start.cachedTokens;
        this.#execution.begin();
        this.#execution.inputsReady();
      },
      delta: (delta: GenerationDelta) => this.#delta(delta),
      end: ended,
      fail: (error: Error) => {
        const message = `Error generating request: ${error.message}`;
        this.#execution.fail(new RepositoryError('INTERNAL', message, { cause: error }));
      },
    };
  }

  #delta(delta: GenerationDelta): void {
    for (const one of delta.logprobs ?? []) this.#logprob += one.logprob;
    const stopReason = delta.stopReason === undefined ? undefined : String(delta.stopReason);
    if (delta.finish) this.#respond(delta.text, delta.finish, stopReason, true);
    else if (this.#isStreaming && delta.text !== '') this.#respond(delta.text, undefined, undefined, false);
    else this.#text += delta.text;
  }

  #respond(text: string, finish: string | undefined, stopReason: string | undefined, isFinal: boolean): void {
    const whole = this.#isStreaming ? text : this.#prefix + this.#text + text;
    const outputs: Tensor[] = [bytesTensor('text_output', [1], [whole])];
    const asks = (name: string): boolean => truthOf(this.#execution, name);
    if (asks('return_finish_reason')) outputs.push(bytesTensor('finish_reason', [1], [finish ?? '']));
    if (asks('return_stop_reason')) outputs.push(bytesTensor('stop_reason', [1], [stopReason ?? '']));
    if (asks('return_cumulative_logprob')) {
      outputs.push(tensorOf('cumulative_logprob', 'FP32', [1], Float32Array.of(this.#logprob)));
    }
    if (isFinal && asks('sampling_param_return_perf_metrics')) outputs.push(...this.#metrics());
    this.#execution.respond({ outputs }, isFinal);
  }

  /** As JSON texts, as the original sends them. */
  #metrics(): Tensor[] {
    const { promptTokens } = definite(this.#generation, 'the generation').usage;
    const { startedNs, arrivedNs } = this.#execution.times;
    const reused = Math.floor(this.#cached / this.#blockPositions);
    const blocks = Math.ceil(promptTokens / this.#blockPositions);
    const values = {
      kv_cache_reused_block: reused,
      kv_cache_missed_block: blocks - reused,
      kv_cache_hit_rate: blocks > 0 ? reused / blocks : 0,
      arrival_time_ns: arrivedNs,
      first_scheduled_time_ns: startedNs,
    };
    return Object.entries(values).map(([name, value]) => bytesTensor(name, [1], [JSON.stringify(value)]));
  }
}

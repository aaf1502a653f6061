import type { Clock } from '../../base/clock.ts';
import { NereidError } from '../../base/errors.ts';
import { TaskAdapters } from '../../runtime/adapters/task-adapters.ts';
import { openTokenizer } from '../../tokenizer/open.ts';
import type { Tokenizer } from '../../tokenizer/types.ts';
import type { BackendContext, DirectBackend } from '../backend.ts';
import { parameterTruth } from '../config/complete.ts';
import type { EngineLease } from '../engine-host.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import { renamed, type Tensor } from '../tensor.ts';
import { BeamOutputs } from './beam-outputs.ts';
import { refuseMissingFeatures } from './features.ts';
import { GatheredRows } from './gathered-rows.ts';
import { type EngineFacts, type GenerationPlan, planGeneration } from './generation.ts';
import { Inputs } from './inputs.ts';
import { type LogitTypes, logitsOfRow, logitTypesOf } from './logits.ts';
import { adaptersOf, type RowAdapters } from './lora.ts';
import { SequenceOutput } from './outputs.ts';
import { RowRun } from './run.ts';
import { engineSpecification } from './specification.ts';
import { TokenLengths } from './token-lengths.ts';

/**
 * The `tensorrtllm` backend: an engine behind TensorRT-LLM's tensors. Requests go to the engine at once; it batches them in flight, or
 * statically where the configuration says V1.
 * @throws RepositoryError, or what keeps the engine from starting
 */
export async function load(context: BackendContext): Promise<DirectBackend> {
  const { specification, isInflight } = await engineSpecification(context);
  const lease = await context.engines.acquire(specification);
  try {
    const tokenizer = await openTokenizer(lease.tokenizerFolder);
    const model = new EngineModel(context, lease, tokenizer);
    return {
      kind: 'direct',
      start: (execution) => model.start(execution),
      engine: {
        client: lease.client,
        tokenizerFolder: lease.tokenizerFolder,
        isInflight,
        inputTokens: model.inputTokens,
        outputTokens: model.outputTokens,
      },
      close: () => lease.release(),
    };
  } catch (thrown) {
    await lease.release();
    throw thrown;
  }
}

/** The requests of one model. */
class EngineModel {
  readonly #lease: EngineLease;
  readonly #tokenizer: Tokenizer;
  readonly #tasks: TaskAdapters;
  readonly #facts: EngineFacts;
  readonly #isDecoupled: boolean;
  readonly #excludesPrompt: boolean;
  /** Names of the outputs that the configuration declares. */
  readonly #declared: ReadonlySet<string>;
  readonly #logitTypes: LogitTypes;
  readonly inputTokens = new TokenLengths();
  readonly outputTokens = new TokenLengths();
  readonly #clock: Clock;
  readonly #epochOffsetNs: number;
  /** By request id, for stop requests; several may carry the same. */
  readonly #byId = new Map<string, Set<() => void>>();

  constructor({ config, clock }: BackendContext, lease: EngineLease, tokenizer: Tokenizer) {
    this.#lease = lease;
    this.#tokenizer = tokenizer;
    this.#tasks = new TaskAdapters(lease.client);
    const { vocabularySize } = lease.client.description;
    this.#facts = { vocabularySize, stopTokenIds: tokenizer.stopTokenIds };
    this.#isDecoupled = config.model_transaction_policy?.decoupled ?? false;
    this.#excludesPrompt = parameterTruth(config, 'exclude_input_in_output') ?? false;
    this.#declared = new Set(config.output.map(({ name }) => name));
    this.#logitTypes = logitTypesOf(config);
    this.#clock = clock;
    this.#epochOffsetNs = clock.wallMs() * 1e6 - clock.nowNs();
  }

  start(execution: Execution): void {
    const { request } = execution;
    const inputs = new Inputs(request);
    if (inputs.truth('stop', 0)) {
      this.#stop(execution);
      return;
    }
    for (const name of ['output_ids', 'sequence_length']) {
      if (this.#declared.has(name) && !execution.wants(name)) {
        throw new RepositoryError(
          'INVALID_ARGUMENT',
          `${name} tensor must be present in the list of output tensors`,
        );
      }
    }
    const isStreaming = inputs.truth('streaming', 0);
    this.#checkDecoupled(execution, isStreaming, inputs.number('num_return_sequences', 0) ?? 1);
    refuseMissingFeatures(request, inputs, execution.batchSize);
    const adapters = adaptersOf(inputs, execution.batchSize, this.#tasks);
    if (adapters instanceof Promise) this.#startLater(execution, inputs, isStreaming, adapters);
    else this.#submit(execution, inputs, isStreaming, adapters);
  }

  /** A request whose adapter is loaded first. Stopped meanwhile, it has nothing to say. */
  #startLater(
    execution: Execution,
    inputs: Inputs,
    isStreaming: boolean,
    adapters: Promise<RowAdapters>,
  ): void {
    const { onOver } = execution;
    const forget = this.#remember(execution.request.id, () => execution.respond({ outputs: [] }, true));
    execution.onOver = () => {
      forget();
      onOver?.();
    };
    adapters
      .then((loaded) => {
        if (execution.isOver) return;
        forget();
        execution.onOver = onOver;
        this.#submit(execution, inputs, isStreaming, loaded);
      })
      .catch((thrown: unknown) => execution.fail(thrown));
  }

  /** @throws RepositoryError */
  #submit(
    execution: Execution,
    inputs: Inputs,
    isStreaming: boolean,
    adapters: RowAdapters | undefined,
  ): void {
    const { request } = execution;
    const isAllDone = (): boolean => rows.every(({ run }) => run.isDone);
    const gathered = this.#gathers(execution)
      ? new GatheredRows(execution, inputs.number('pad_id', 0))
      : undefined;
    const rows = Array.from({ length: execution.batchSize }, (_, row) =>
      this.#row(execution, inputs, row, isStreaming, (outputs, isLast) => {
        const shown = this.#asDeclared(outputs);
        if (gathered) gathered.add(row, shown);
        else execution.respond({ outputs: shown }, isLast && isAllDone());
      }),
    );
    const cancelAll = (): void => {
      for (const { run } of rows) run.cancel();
    };
    execution.onCancel = cancelAll;
    const forget = this.#remember(request.id, () => {
      for (const { run } of rows) run.stop();
    });
    const { onOver } = execution;
    let isTaken = false;
    execution.onOver = () => {
      forget();
      if (isTaken)
        request.onTokens?.(rows.reduce((sum, { run, plan }) => sum + plan.prompt.length + run.tokens, 0));
      onOver?.();
    };
    try {
      for (const [row, { run, plan }] of rows.entries()) {
        const asked = { ...plan.request, adapter: adapters?.[row] };
        run.attach(this.#lease.client.submit(asked, (event) => run.accept(event)));
      }
      isTaken = true;
    } catch (thrown) {
      cancelAll();
      throw thrown instanceof NereidError ? executorError(thrown) : thrown;
    }
  }

  #row(
    execution: Execution,
    inputs: Inputs,
    row: number,
    isStreaming: boolean,
    respond: (outputs: Tensor[], isLast: boolean) => void,
  ): { run: RowRun; plan: GenerationPlan } {
    const plan = planGeneration(execution.request, inputs, row, this.#facts);
    const returns = logitsOfRow(execution, inputs, row, this.#logitTypes);
    if (returns) plan.request.returns = returns;
    const excluded = inputs.get('exclude_input_in_output');
    const excludesPrompt = excluded ? inputs.truth('exclude_input_in_output', row) : this.#excludesPrompt;
    const { sequences, beams } = plan.request;
    const isSeveral = sequences > 1 && !beams;
    const together = beams && sequences > 1 ? new BeamOutputs(sequences, respond) : undefined;
    const run = new RowRun({
      execution,
      plan,
      isStreaming,
      clock: this.#clock,
      tokenizer: this.#tokenizer,
      output: (sequence) =>
        new SequenceOutput(execution, {
          prompt: plan.prompt,
          withPrompt: !excludesPrompt,
          batchIndex: execution.batchSize > 1 ? row : undefined,
          sequenceIndex: isSeveral ? sequence : undefined,
          withLogprobs: plan.request.logprobs !== undefined,
          withTimes: inputs.truth('return_perf_metrics', row),
          withInputCount: inputs.truth('return_num_input_tokens', row),
          withOutputCount: inputs.truth('return_num_output_tokens', row),
          logitTypes: this.#logitTypes,
          kvBlockPositions: this.#lease.client.description.kvChunkPositions,
          epochOffsetNs: this.#epochOffsetNs,
        }),
      respond: (outputs, isLast, sequence) => {
        if (together) together.add(sequence, outputs);
        else respond(outputs, isLast);
      },
      ended: (tokens) => {
        this.inputTokens.add(plan.prompt.length);
        this.outputTokens.add(tokens);
      },
    });
    return { run, plan };
  }

  /** The static runtime's model (`gpt`) answers a batch as one; the others tell rows apart by their index. */
  #gathers({ batchSize }: Execution): boolean {
    return !this.#isDecoupled && batchSize > 1 && !this.#declared.has('batch_index');
  }

  /** Under the names that the configuration declares. */
  #asDeclared(outputs: Tensor[]): Tensor[] {
    if (this.#declared.has('sequence_length')) return outputs;
    const own = outputs.map((tensor) =>
      tensor.name === 'output_log_probs' ? renamed(tensor, 'log_probs') : tensor,
    );
    return own.filter(({ name }) => this.#declared.has(name));
  }

  #checkDecoupled(execution: Execution, isStreaming: boolean, sequences: number): void {
    if (this.#isDecoupled || this.#gathers(execution)) return;
    const { batchSize } = execution;
    const problem = isStreaming
      ? 'Streaming is only supported if model is deployed using decoupled mode.'
      : batchSize > 1
        ? 'Batch size > 1 requires the tensorrt_llm backend to be using decoupled transaction policy'
        : sequences > 1
          ? 'num_return_sequences > 1 requires the tensorrt_llm backend to be using decoupled transaction policy'
          : undefined;
    if (problem) throw new RepositoryError('INVALID_ARGUMENT', problem);
  }

  /** A request whose only wish is that an earlier one with its id ends. One that is unknown (it may have ended) is no error. */
  #stop(execution: Execution): void {
    const { id } = execution.request;
    if (id === '') {
      const message = 'Trying to stop a request but request ID is not provided';
      throw new RepositoryError('INVALID_ARGUMENT', message);
    }
    for (const stop of [...(this.#byId.get(id) ?? [])]) stop();
    execution.respond({ outputs: [] }, true);
  }

  #remember(id: string, stop: () => void): () => void {
    if (id === '') return () => {};
    const stops = this.#byId.get(id) ?? new Set();
    this.#byId.set(id, stops.add(stop));
    return () => {
      stops.delete(stop);
      if (stops.size === 0 && this.#byId.get(id) === stops) this.#byId.delete(id);
    };
  }
}

/** The original's words around what its executor refuses. */
function executorError(cause: NereidError): RepositoryError {
  const status =
    cause.kind === 'exhausted' || cause.kind === 'unavailable' ? 'UNAVAILABLE' : 'INVALID_ARGUMENT';
  return new RepositoryError(status, cause.message, { cause });
}

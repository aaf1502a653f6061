import type { Backend, BackendContext } from '../backend.ts';
import { parameterText } from '../config/complete.ts';
import { EnsembleRun } from '../ensemble/run.ts';
import type { WiredStep } from '../ensemble/wiring.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import type { Model } from '../model.ts';
import { bytesTensor, type Tensor, textsOf, valuesOf } from '../tensor.ts';
import { draftLoopModel, draftWishesOf } from './draft-loop.ts';
import { looseTruth, stopTokenIdsOf } from './tokenizers.ts';

/** BLS input → preprocessing input. */
const toPreprocessing: Readonly<Record<string, string>> = {
  text_input: 'QUERY',
  max_tokens: 'REQUEST_OUTPUT_LEN',
  decoder_text_input: 'DECODER_QUERY',
  bad_words: 'BAD_WORDS_DICT',
  stop_words: 'STOP_WORDS_DICT',
  embedding_bias_words: 'EMBEDDING_BIAS_WORDS',
  embedding_bias_weights: 'EMBEDDING_BIAS_WEIGHTS',
  end_id: 'END_ID',
  pad_id: 'PAD_ID',
  prompt_table_extra_id: 'PROMPT_TABLE_EXTRA_ID',
  image_bytes_input: 'IMAGE_BYTES',
  video_bytes_input: 'VIDEO_BYTES',
  image_url_input: 'IMAGE_URL',
};

/** Preprocessing output → tensorrt_llm input. */
const toEngine: Readonly<Record<string, string>> = {
  INPUT_ID: 'input_ids',
  REQUEST_INPUT_LEN: 'input_lengths',
  REQUEST_OUTPUT_LEN: 'request_output_len',
  STOP_WORDS_IDS: 'stop_words_list',
  BAD_WORDS_IDS: 'bad_words_list',
  EMBEDDING_BIAS: 'embedding_bias',
  OUT_END_ID: 'end_id',
  OUT_PAD_ID: 'pad_id',
};

/** BLS input → tensorrt_llm input, where the names differ; all others go by their own name. */
const renamedForEngine: Readonly<Record<string, string>> = {
  top_k: 'runtime_top_k',
  top_p: 'runtime_top_p',
  length_penalty: 'len_penalty',
  stream: 'streaming',
};

/**
 * TensorRT-LLM's `tensorrt_llm_bls`: preprocessing, engine and postprocessing called from a model. Requests run side by side; the
 * original serves one an instance.
 * @throws RepositoryError UNSUPPORTED for multimodal encoders
 */
export async function load(context: BackendContext): Promise<Backend> {
  const encoders = 'multimodal_encoders_name';
  if (parameterText(context.config, encoders) !== undefined) {
    const message = `multimodal encoders are not supported; leave the parameter ${encoders} of ${context.name} unset`;
    throw new RepositoryError('UNSUPPORTED', message);
  }
  const draftName = parameterText(context.config, 'tensorrt_llm_draft_model_name');
  const engineName = parameterText(context.config, 'tensorrt_llm_model_name') ?? 'tensorrt_llm';
  const names = {
    preprocessing: parameterText(context.config, 'preprocessing_model_name') ?? 'preprocessing',
    engine: engineName,
    postprocessing: parameterText(context.config, 'postprocessing_model_name') ?? 'postprocessing',
  };
  const accumulates = looseTruth(context, 'accumulate_tokens', false);
  const outputs = [...new Set(context.config.output.map(({ name }) => name))];
  const declared = context.config.input.map(({ name }) => name);
  let stops: Promise<readonly number[]> | undefined;
  let wired: { by: Model[]; steps: WiredStep[] } | undefined;
  const steps = (): WiredStep[] => {
    const by = [names.preprocessing, names.engine, names.postprocessing].map((name) => context.model(name));
    if (!wired?.by.every((model, index) => model === by[index]))
      wired = { by, steps: wire(by, declared, outputs) };
    return wired.steps;
  };
  return {
    kind: 'direct',
    start: (execution) => {
      check(execution);
      const texts = new BlsTexts(execution, accumulates);
      const wishes = draftName === undefined ? undefined : draftWishesOf(execution);
      const modelOf = (name: string): Model => {
        const found = context.model(name);
        if (!wishes || draftName === undefined || name !== names.engine) return found;
        stops ??= stopTokenIdsOf(context.model(names.preprocessing).config);
        return draftLoopModel(
          { engine: found, draft: context.model(draftName), stopTokenIds: stops },
          wishes,
        );
      };
      const parts = {
        steps: steps(),
        outputs,
        model: modelOf,
        errorPrefix: '',
        finish: (tensors: Tensor[]) => texts.finish(tensors),
      };
      new EnsembleRun(execution, parts).start();
    },
    close: async () => {},
  };
}

function check(execution: Execution): void {
  const text = execution.input('text_input');
  if (!text || textsOf(text).some((one) => one === '')) {
    throw new RepositoryError('INVALID_ARGUMENT', 'text_input must not be empty');
  }
  const maxTokens = execution.input('max_tokens');
  if (!maxTokens || valuesOf(maxTokens, 'INT32').some((count) => count <= 0)) {
    throw new RepositoryError('INVALID_ARGUMENT', 'max_tokens must be above 0');
  }
}

/** The three models as steps; only tensors that they declare are wired. */
function wire(
  [preprocessing, engine, postprocessing]: Model[],
  declared: string[],
  outputs: string[],
): WiredStep[] {
  const has = (tensors: readonly { name: string }[] | undefined, name: string): boolean =>
    tensors?.some((tensor) => tensor.name === name) ?? false;
  const step = (
    model: Model | undefined,
    parts: Omit<WiredStep, 'modelName' | 'version' | 'isDecoupled'>,
  ): WiredStep => ({
    modelName: model?.name ?? '',
    version: '',
    isDecoupled: model?.isDecoupled ?? false,
    inputs: parts.inputs.filter(({ inner }) => has(model?.config.input, inner)),
    outputs: parts.outputs.filter(({ inner }) => has(model?.config.output, inner)),
    usedBySteps: parts.usedBySteps,
    after: parts.after,
  });
  const between = (name: string): string => `_${name}`;
  const own = declared.filter((name) => !Object.hasOwn(toPreprocessing, name));
  return [
    step(preprocessing, {
      inputs: Object.entries(toPreprocessing).map(([tensor, inner]) => ({ inner, tensor })),
      outputs: Object.keys(toEngine).map((inner) => ({ inner, tensor: between(inner) })),
      usedBySteps: new Set(Object.keys(toEngine)),
      after: [],
    }),
    step(engine, {
      inputs: [
        ...Object.entries(toEngine).map(([output, inner]) => ({ inner, tensor: between(output) })),
        ...own.map((tensor) => ({ inner: renamedForEngine[tensor] ?? tensor, tensor })),
      ],
      outputs: [
        { inner: 'output_ids', tensor: between('output_ids') },
        { inner: 'sequence_length', tensor: between('sequence_length') },
        ...outputs.filter((name) => name !== 'text_output').map((name) => ({ inner: name, tensor: name })),
      ],
      usedBySteps: new Set(['output_ids', 'sequence_length']),
      after: [0],
    }),
    step(postprocessing, {
      inputs: [
        { inner: 'TOKENS_BATCH', tensor: between('output_ids') },
        { inner: 'SEQUENCE_LENGTH', tensor: between('sequence_length') },
      ],
      outputs: [{ inner: 'OUTPUT', tensor: 'text_output' }],
      usedBySteps: new Set(),
      after: [1],
    }),
  ];
}

/** What BLS does to texts: cut after the first stop word (which stays), and add up streamed pieces where asked to. */
class BlsTexts {
  readonly #stopWords: readonly string[];
  readonly #isStreaming: boolean;
  readonly #accumulates: boolean;
  readonly #promptLength: number;
  /** By sequence, in the order of its index. */
  readonly #soFar = new Map<number, string>();

  constructor(execution: Execution, accumulates: boolean) {
    const words = execution.input('stop_words');
    // Rows of a batch have their own words; the engine cuts those by itself.
    this.#stopWords = words && execution.batchSize === 1 ? textsOf(words).filter((word) => word !== '') : [];
    const stream = execution.input('stream');
    this.#isStreaming = stream?.data[0] === 1;
    this.#accumulates = accumulates && this.#isStreaming && execution.batchSize === 1;
    const [prompt = ''] = textsOf(execution.input('text_input') as Tensor);
    this.#promptLength = this.#isStreaming ? 0 : prompt.length;
  }

  finish(outputs: Tensor[]): Tensor[] {
    if (this.#stopWords.length === 0 && !this.#accumulates) return outputs;
    const index = outputs.find(({ name }) => name === 'sequence_index');
    const sequence = index ? Number(valuesOf(index, 'INT32')[0]) : 0;
    return outputs.map((tensor) => {
      if (tensor.name !== 'text_output') return tensor;
      const texts = textsOf(tensor).map((text) => this.#text(text, sequence));
      return bytesTensor(tensor.name, tensor.shape, texts);
    });
  }

  #text(piece: string, sequence: number): string {
    const before = this.#soFar.get(sequence) ?? '';
    const whole = this.#cut(before + piece, before === '' && !this.#isStreaming);
    if (this.#isStreaming) this.#soFar.set(sequence, whole);
    return this.#accumulates ? whole : whole.slice(before.length);
  }

  /** A whole answer may begin with the prompt, whose words do not count. */
  #cut(text: string, mayHavePrompt: boolean): string {
    let end = text.length;
    for (const word of this.#stopWords) {
      const from = mayHavePrompt && text.length > this.#promptLength ? this.#promptLength : 0;
      const at = text.indexOf(word, from);
      if (at >= 0) end = Math.min(end, at + word.length);
    }
    return text.slice(0, end);
  }
}

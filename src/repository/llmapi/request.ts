import type { GenerationInput } from '../../generation/generation.ts';
import type { AdapterDirectory } from '../../runtime/adapters/adapter.ts';
import { type AdapterReference, greedySampling } from '../../runtime/requests/request.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import { type NumericDataType, textsOf, valuesOf } from '../tensor.ts';

/** Tokens that TensorRT-LLM's LLM API makes where a request does not say. */
export const maxTokensDefault = 32;

const unsupported: Readonly<Record<string, string>> = {
  image_url: 'image inputs',
  sampling_param_logits_post_processor_name: 'logits post-processors',
};

/** The first value of a numeric input; undefined where it was not sent. */
export function numberOf(execution: Execution, name: string): number | undefined {
  const tensor = execution.input(name);
  if (!tensor || tensor.data.length === 0) return undefined;
  return Number(valuesOf(tensor, tensor.datatype as NumericDataType)[0]);
}

/** Whether a BOOL input is true. */
export function truthOf(execution: Execution, name: string): boolean {
  return (numberOf(execution, name) ?? 0) !== 0;
}

/** The one prompt of a request. @throws RepositoryError INVALID_ARGUMENT, UNSUPPORTED */
export function promptOf(execution: Execution): string {
  const text = execution.input('text_input');
  const [prompt, ...others] = text ? textsOf(text) : [];
  if (prompt === undefined || others.length > 0) {
    throw new RepositoryError('INVALID_ARGUMENT', "'text_input' must hold one prompt");
  }
  for (const [name, feature] of Object.entries(unsupported)) {
    if ((execution.input(name)?.data.length ?? 0) === 0) continue;
    throw new RepositoryError(
      'UNSUPPORTED',
      `${feature} are not supported; send the request without '${name}'`,
    );
  }
  if ((numberOf(execution, 'sampling_param_best_of') ?? 1) > 1) {
    throw new RepositoryError(
      'UNSUPPORTED',
      "'sampling_param_best_of' above 1 is not supported; send several requests",
    );
  }
  return prompt;
}

/**
 * The LoRA adapter of a request: one that the engine has under `lora_name`. Paths are not read for a client: `lora_id`, `lora_path` and
 * `lora_ckpt_source` change nothing beside a name that is known.
 * @throws RepositoryError INVALID_ARGUMENT, NOT_FOUND
 */
export function adapterOf(
  execution: Execution,
  adapters: AdapterDirectory | undefined,
): AdapterReference | undefined {
  const tensor = execution.input('lora_name');
  const [name = ''] = tensor ? textsOf(tensor) : [];
  if (name === '') {
    const other = ['lora_id', 'lora_path', 'lora_ckpt_source'].find(
      (one) => (execution.input(one)?.data.length ?? 0) > 0,
    );
    if (other === undefined) return undefined;
    throw new RepositoryError('INVALID_ARGUMENT', `'${other}' needs a 'lora_name'; send both`);
  }
  const found = adapters?.list().find((one) => one.name === name);
  if (found) return { name, digest: found.digest };
  const problem = `the adapter '${name.slice(0, 200)}' is not loaded`;
  throw new RepositoryError(
    'NOT_FOUND',
    `${problem}; start the server with --lora name=path, or load it over HTTP`,
  );
}

/** The `sampling_param_*` tensors as a generation: greedy unless temperature, top-k or top-p are given. */
export function generationOf(execution: Execution, promptTokens: Int32Array): GenerationInput {
  const sampling = (name: string): number | undefined => numberOf(execution, `sampling_param_${name}`);
  const topK = sampling('top_k') ?? 0;
  const topP = sampling('top_p') ?? 1;
  const temperature = sampling('temperature');
  const isSampling = temperature !== undefined || topK > 1 || (topP > 0 && topP < 1);
  const stop = execution.input('sampling_param_stop');
  return {
    promptTokens,
    sampling: {
      ...greedySampling,
      temperature: isSampling && topK !== 1 ? (temperature ?? 1) : 0,
      topK: Math.max(0, topK),
      topP: topP > 0 ? Math.min(1, topP) : 1,
      frequencyPenalty: sampling('frequency_penalty') ?? 0,
      presencePenalty: sampling('presence_penalty') ?? 0,
      seed: (sampling('seed') ?? 0) % Number.MAX_SAFE_INTEGER,
    },
    maxTokens: sampling('max_tokens') ?? maxTokensDefault,
    minTokens: 0,
    stopTokenIds: [],
    ignoreEos: false,
    stopStrings: stop ? textsOf(stop).filter((text) => text !== '') : [],
    includeStopString: false,
    skipSpecialTokens: true,
    sequences: 1,
    logprobs: truthOf(execution, 'return_cumulative_logprob') ? 0 : undefined,
    priority: 0,
  };
}

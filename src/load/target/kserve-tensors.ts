import type { SamplingSpec, TargetRequest } from './target.ts';

/** One tensor of a KServe request or answer, row by row. */
export interface WireTensor {
  name: string;
  datatype: string;
  shape: readonly number[];
  /** Texts of a BYTES tensor; of a BOOL tensor 0 and 1. */
  values: readonly (number | string)[];
}

/** The ids that token-level clients of the TensorRT-LLM backend send where the user names none. */
const padIdDefault = 0;
const endIdDefault = 1;

/** An INT32 tensor of batch size 1. */
export function int32Tensor(name: string, values: ArrayLike<number>): WireTensor {
  return { name, datatype: 'INT32', shape: [1, values.length], values: Array.from(values) };
}

/** A tensor of shape [1, 1]. */
export function singleTensor(
  name: string,
  datatype: 'FP32' | 'BOOL' | 'BYTES',
  value: number | string,
): WireTensor {
  return { name, datatype, shape: [1, 1], values: [value] };
}

/** The inputs of the TensorRT-LLM backend for ids, or of its ensemble for text, by their names there. */
export function requestTensors(
  { text, tokens, outputTokensMax }: TargetRequest,
  sampling: SamplingSpec,
  streams: boolean,
): WireTensor[] {
  return tokens
    ? tokenTensors(tokens, outputTokensMax, sampling, streams)
    : textTensors(text, outputTokensMax, sampling, streams);
}

/** What is asked for of the answer. The backend wants the lengths beside the ids. */
export function requestedOutputs({ tokens }: TargetRequest): string[] {
  return tokens ? ['output_ids', 'sequence_length'] : ['text_output'];
}

/** The model of the TensorRT-LLM backend that takes such a request. */
export function usualModel({ tokens }: TargetRequest): string {
  return tokens ? 'tensorrt_llm' : 'ensemble';
}

function tokenTensors(
  tokens: Int32Array,
  outputTokensMax: number,
  sampling: SamplingSpec,
  streams: boolean,
): WireTensor[] {
  const { temperature, topP, topK } = sampling;
  return [
    int32Tensor('input_ids', tokens),
    int32Tensor('input_lengths', [tokens.length]),
    int32Tensor('request_output_len', [outputTokensMax]),
    int32Tensor('end_id', [sampling.ignoreEos ? -1 : endIdDefault]),
    int32Tensor('pad_id', [padIdDefault]),
    singleTensor('streaming', 'BOOL', streams ? 1 : 0),
    ...(temperature === undefined ? [] : [singleTensor('temperature', 'FP32', temperature)]),
    ...(topP === undefined ? [] : [singleTensor('runtime_top_p', 'FP32', topP)]),
    ...(topK === undefined ? [] : [int32Tensor('runtime_top_k', [topK])]),
  ];
}

function textTensors(
  text: string,
  outputTokensMax: number,
  sampling: SamplingSpec,
  streams: boolean,
): WireTensor[] {
  const { temperature, topP, topK } = sampling;
  return [
    singleTensor('text_input', 'BYTES', text),
    int32Tensor('max_tokens', [outputTokensMax]),
    singleTensor('stream', 'BOOL', streams ? 1 : 0),
    ...(sampling.ignoreEos ? [int32Tensor('end_id', [-1])] : []),
    ...(temperature === undefined ? [] : [singleTensor('temperature', 'FP32', temperature)]),
    ...(topP === undefined ? [] : [singleTensor('top_p', 'FP32', topP)]),
    ...(topK === undefined ? [] : [int32Tensor('top_k', [topK])]),
  ];
}

/**
 * The text, or how many ids, of an answer's tensors; undefined for one without either (a stream's final flag alone). An answer that does
 * not stream begins with the prompt's ids unless the server was told otherwise; they were not generated.
 */
export function answerOf(
  outputs: readonly WireTensor[],
  { tokens: prompt }: TargetRequest,
  streams: boolean,
): { text: string; tokens?: number } | undefined {
  const find = (name: string): WireTensor | undefined => outputs.find((output) => output.name === name);
  const text = find('text_output')?.values[0];
  if (text !== undefined) return { text: String(text) };
  const ids = find('output_ids')?.values;
  if (!ids) return undefined;
  const length = find('sequence_length')?.values[0];
  const count = typeof length === 'number' && length <= ids.length ? length : ids.length;
  const repeatsPrompt =
    !streams && prompt !== undefined && count >= prompt.length && prompt.every((id, at) => ids[at] === id);
  return { text: '', tokens: repeatsPrompt ? count - prompt.length : count };
}

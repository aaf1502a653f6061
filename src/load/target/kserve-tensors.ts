import type { SamplingSpec, TargetRequest } from './target.ts';

/** One input tensor of a KServe request, with its raw little-endian bytes. */
export interface InputTensor {
  name: string;
  datatype: string;
  shape: readonly number[];
  data: Buffer;
}

/** The ids that token-level clients of the TensorRT-LLM backend send where the user names none. */
const padIdDefault = 0;
const endIdDefault = 1;

/** An INT32 tensor of batch size 1. */
export function int32Tensor(name: string, values: ArrayLike<number>): InputTensor {
  const data = Buffer.alloc(values.length * 4);
  for (let i = 0; i < values.length; i++) data.writeInt32LE(values[i] ?? 0, i * 4);
  return { name, datatype: 'INT32', shape: [1, values.length], data };
}

/** An FP32 tensor of shape [1, 1]. */
export function float32Tensor(name: string, value: number): InputTensor {
  const data = Buffer.alloc(4);
  data.writeFloatLE(value);
  return { name, datatype: 'FP32', shape: [1, 1], data };
}

/** A BOOL tensor of shape [1, 1]. */
export function boolTensor(name: string, value: boolean): InputTensor {
  return { name, datatype: 'BOOL', shape: [1, 1], data: Buffer.of(value ? 1 : 0) };
}

/** A BYTES tensor of shape [1, 1]: its length in four bytes, then the text. */
export function textTensor(name: string, text: string): InputTensor {
  const bytes = Buffer.from(text, 'utf8');
  const data = Buffer.alloc(4 + bytes.length);
  data.writeUInt32LE(bytes.length);
  bytes.copy(data, 4);
  return { name, datatype: 'BYTES', shape: [1, 1], data };
}

/** The inputs of the TensorRT-LLM backend for ids, or of its ensemble for text, by their names there. */
export function requestTensors(
  { text, tokens, outputTokensMax }: TargetRequest,
  sampling: SamplingSpec,
  streams: boolean,
): InputTensor[] {
  return tokens
    ? tokenTensors(tokens, outputTokensMax, sampling, streams)
    : textTensors(text, outputTokensMax, sampling, streams);
}

function tokenTensors(
  tokens: Int32Array,
  outputTokensMax: number,
  sampling: SamplingSpec,
  streams: boolean,
): InputTensor[] {
  return [
    int32Tensor('input_ids', tokens),
    int32Tensor('input_lengths', [tokens.length]),
    int32Tensor('request_output_len', [outputTokensMax]),
    int32Tensor('end_id', [sampling.ignoreEos ? -1 : endIdDefault]),
    int32Tensor('pad_id', [padIdDefault]),
    boolTensor('streaming', streams),
    ...(sampling.temperature === undefined ? [] : [float32Tensor('temperature', sampling.temperature)]),
    ...(sampling.topP === undefined ? [] : [float32Tensor('runtime_top_p', sampling.topP)]),
    ...(sampling.topK === undefined ? [] : [int32Tensor('runtime_top_k', [sampling.topK])]),
  ];
}

function textTensors(
  text: string,
  outputTokensMax: number,
  sampling: SamplingSpec,
  streams: boolean,
): InputTensor[] {
  return [
    textTensor('text_input', text),
    int32Tensor('max_tokens', [outputTokensMax]),
    boolTensor('stream', streams),
    ...(sampling.ignoreEos ? [int32Tensor('end_id', [-1])] : []),
    ...(sampling.temperature === undefined ? [] : [float32Tensor('temperature', sampling.temperature)]),
    ...(sampling.topP === undefined ? [] : [float32Tensor('top_p', sampling.topP)]),
    ...(sampling.topK === undefined ? [] : [int32Tensor('top_k', [sampling.topK])]),
  ];
}

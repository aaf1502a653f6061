import { f32ToBf16, f32ToF16 } from '../../base/half.ts';
import type { OutputRows } from '../../runtime/outputs/output-rows.ts';
import type { RequestReturns } from '../../runtime/requests/request.ts';
import { dataTypeOf, type ModelConfig } from '../config/types.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import { type DataType, type Tensor, tensorOf } from '../tensor.ts';
import type { Inputs } from './inputs.ts';

/** The outputs that hold logits, with what asks for them and what the engine calls them. */
const logitOutputs = [
  { output: 'context_logits', input: 'return_context_logits', name: 'contextLogits' },
  { output: 'generation_logits', input: 'return_generation_logits', name: 'generationLogits' },
] as const;

export type LogitOutput = (typeof logitOutputs)[number]['output'];

/** By output: the type that a model's configuration declares its logits with. Those that it does not declare are not made. */
export type LogitTypes = ReadonlyMap<string, LogitType>;

/** What logits can be declared as. */
type LogitType = (typeof logitTypes)[number];
const logitTypes = ['FP32', 'FP16', 'BF16'] as const satisfies readonly DataType[];

/** @throws RepositoryError UNSUPPORTED for a declared type that is no float */
export function logitTypesOf({ output, name: model }: ModelConfig): LogitTypes {
  const declared = new Map<string, LogitType>();
  for (const { name, data_type: type } of output) {
    if (!logitOutputs.some((known) => known.output === name)) continue;
    const found = logitTypes.find((known) => known === dataTypeOf(type));
    if (!found) {
      const problem = `${model} declares ${name} as ${type}; logits are TYPE_FP32, TYPE_FP16 or TYPE_BF16`;
      throw new RepositoryError('UNSUPPORTED', `${problem}: set logits_datatype`);
    }
    declared.set(name, found);
  }
  return declared;
}

/** What a row of a request asks the engine to show; undefined for nothing. Logits that no output of the request takes are not asked for. */
export function logitsOfRow(
  execution: Execution,
  inputs: Inputs,
  row: number,
  declared: LogitTypes,
): RequestReturns | undefined {
  const asked = logitOutputs.filter(
    ({ output, input }) => inputs.truth(input, row) && declared.has(output) && execution.wants(output),
  );
  if (asked.length === 0) return undefined;
  return Object.fromEntries(asked.map(({ name }) => [name, true]));
}

/**
 * Rows of logits as an output, in the declared type.
 * @param shape of the tensor; its elements are the rows'
 */
export function logitsTensor(
  name: LogitOutput,
  shape: readonly number[],
  values: Float32Array,
  declared: LogitTypes,
): Tensor {
  const datatype = declared.get(name) ?? 'FP32';
  if (datatype === 'FP32') return tensorOf(name, datatype, shape, values);
  if (datatype === 'FP16') return tensorOf(name, datatype, shape, Uint16Array.from(values, f32ToF16));
  return tensorOf(name, datatype, shape, Uint16Array.from(values, f32ToBf16));
}

/** The rows of several events as one array. */
export function joinedRows(parts: readonly OutputRows[]): Float32Array {
  const [first] = parts;
  if (parts.length === 1 && first) return first.values;
  const joined = new Float32Array(parts.reduce((sum, { values }) => sum + values.length, 0));
  let at = 0;
  for (const { values } of parts) {
    joined.set(values, at);
    at += values.length;
  }
  return joined;
}

/** The first `count` rows. */
export function firstRows({ rows, width, values }: OutputRows, count: number): OutputRows {
  return count >= rows
    ? { rows, width, values }
    : { rows: count, width, values: values.subarray(0, count * width) };
}

import { RepositoryError } from '../../repository/errors.ts';
import type { InferRequest, ParameterValue } from '../../repository/model.ts';
import { type Json, WrittenDouble } from './json-parser.ts';
import { asBoolean, asString, asUnsigned, membersOf, prefixed } from './json-values.ts';
import type { WireParameter, WireParameters } from './messages.ts';

/** A request's parameters, the reserved ones told apart. */
export interface RequestParameters {
  custom: Record<string, ParameterValue>;
  sequenceId?: InferRequest['sequenceId'];
  sequenceStart?: boolean;
  sequenceEnd?: boolean;
  priority?: number;
  timeoutUs?: number;
  /** HTTP: outputs that are not listed come as bytes. */
  binaryDataOutput?: boolean;
  /** gRPC streams: a final response without tensors is sent too. */
  emptyFinal?: boolean;
}

function refuse(message: string): never {
  throw new RepositoryError('INVALID_ARGUMENT', message);
}

/** The `parameters` object of an HTTP inference request. @throws RepositoryError in tritonserver's words */
export function httpParameters(json: Json | undefined): RequestParameters {
  const found: RequestParameters = { custom: Object.create(null) };
  if (json === undefined) return found;
  const members = prefixed('failed to get request params.', () => membersOf(json));
  boundParameters(members.size);
  for (const [name, value] of members) {
    const parse = <T>(read: (value: Json) => T): T =>
      prefixed(`Unable to parse '${name}'`, () => read(value));
    if (name === 'sequence_id') {
      found.sequenceId = isUnsigned(value) ? parse(asUnsigned) : parse(asString);
    } else if (name === 'sequence_start') found.sequenceStart = parse(asBoolean);
    else if (name === 'sequence_end') found.sequenceEnd = parse(asBoolean);
    else if (name === 'priority') found.priority = Number(parse(asUnsigned));
    else if (name === 'timeout') found.timeoutUs = Number(parse(asUnsigned));
    else if (name === 'binary_data_output') found.binaryDataOutput = parse(asBoolean);
    else if (name.startsWith('triton_')) {
      refuse(
        "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
      );
    } else found.custom[name] = customParameter(name, value);
  }
  return found;
}

function isUnsigned(value: Json): boolean {
  return (typeof value === 'number' || typeof value === 'bigint') && value >= 0;
}

/** A parameter that goes to the model as it is. @throws RepositoryError for arrays, objects and null */
export function customParameter(name: string, value: Json): ParameterValue {
  if (value instanceof WrittenDouble) return value.value;
  if (value === null || typeof value === 'object') {
    refuse(`parameter '${name}' has invalid type. It should be either 'int', 'bool', or 'string'.`);
  }
  return value;
}

/** Parameters of one request. Models look at each of them. */
export const parametersMax = 1_024;

/** @throws RepositoryError INVALID_ARGUMENT over {@link parametersMax} */
export function boundParameters(count: number): void {
  if (count > parametersMax)
    refuse(`the request has ${count} parameters; at most ${parametersMax} are taken (parametersMax)`);
}

const anyInteger = ['int64', 'uint64'] as const;

/** The parameters of a gRPC inference request. @throws RepositoryError in tritonserver's words */
export function grpcParameters(parameters: WireParameters): RequestParameters {
  const found: RequestParameters = { custom: Object.create(null) };
  boundParameters(parameters.size);
  for (const [name, value] of parameters) {
    if (name === 'sequence_id') {
      found.sequenceId = typedValue(name, value, ['int64', 'string'], 'int64_param or string_param') as
        | number
        | string;
    } else if (name === 'sequence_start')
      found.sequenceStart = typedValue(name, value, ['bool'], 'bool_param') as boolean;
    else if (name === 'sequence_end')
      found.sequenceEnd = typedValue(name, value, ['bool'], 'bool_param') as boolean;
    else if (name === 'priority') {
      found.priority = Number(typedValue(name, value, anyInteger, 'int64_param or uint64_param'));
      if (found.priority < 0) refuse("invalid value for 'priority', expected value >= 0.");
    } else if (name === 'timeout')
      found.timeoutUs = Number(typedValue(name, value, ['int64'], 'int64_param'));
    else if (name === 'triton_enable_empty_final_response') {
      found.emptyFinal = typedValue(name, value, ['bool'], 'bool_param') as boolean;
    } else if (name.startsWith('triton_')) {
      refuse(
        "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys starting with " +
          "'triton_' are allowed: triton_enable_empty_final_response",
      );
    } else found.custom[name] = customWireParameter(name, value);
  }
  return found;
}

function typedValue(
  name: string,
  parameter: WireParameter,
  kinds: readonly WireParameter['kind'][],
  expected: string,
): ParameterValue {
  if (kinds.includes(parameter.kind)) return parameter.value as ParameterValue;
  refuse(`invalid value type for '${name}' parameter, expected ${expected}.`);
}

function customWireParameter(name: string, { kind, value }: WireParameter): ParameterValue {
  if (kind === 'bool' || kind === 'int64' || kind === 'string' || kind === 'double')
    return value as ParameterValue;
  refuse(`invalid value type for '${name}' parameter, expected int64_param, bool_param, or string_param.`);
}

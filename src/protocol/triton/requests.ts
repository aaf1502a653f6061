import { dataTypeOf } from '../../repository/config/types.ts';
import { RepositoryError } from '../../repository/errors.ts';
import type { InferRequest, Model } from '../../repository/model.ts';
import {
  type DataType,
  elementBytes,
  encodeBytes,
  isDataType,
  type Tensor,
} from '../../repository/tensor.ts';
import type { KeyUse } from '../authentication.ts';
import { type Json, type JsonObject, parseJson } from './json-parser.ts';
import { asArray, asBoolean, asString, asUnsigned, memberOf, objectOf, prefixed } from './json-values.ts';
import type { OutputWish } from './outputs.ts';
import { httpParameters, type RequestParameters } from './parameters.ts';
import type { SharedMemory } from './shared-memory.ts';
import { dataOfJson, wireElementCount } from './tensors-json.ts';

/** An inference request as a protocol's front end has read it. */
export interface ParsedRequest {
  request: InferRequest;
  wishes: Map<string, OutputWish>;
  /** How outputs that were not asked for by name are answered. */
  defaultIsBinary: boolean;
  parameters: RequestParameters;
}

/** Puts the parts of a request together; listed outputs are asked for by name, none listed means all. */
export function inferRequest(
  id: string,
  inputs: readonly Tensor[],
  wishes: ReadonlyMap<string, OutputWish>,
  parameters: RequestParameters,
): InferRequest {
  const { custom, sequenceId, sequenceStart, sequenceEnd, priority, timeoutUs } = parameters;
  return {
    id,
    inputs,
    outputs: wishes.size > 0 ? [...wishes.keys()] : undefined,
    parameters: custom,
    sequenceId,
    sequenceStart,
    sequenceEnd,
    priority,
    timeoutUs,
  };
}

/** The same request, whose tokens are counted against a key's limit. */
export function chargedTo(key: KeyUse | undefined, request: InferRequest): InferRequest {
  return key ? { ...request, onTokens: (tokens) => key.spend(tokens) } : request;
}

/** tritonserver's words for which request an error is about. */
export function requestPrefix(id: string): string {
  return `[request id: ${id || '<id_unknown>'}] `;
}

/** Inputs of one request: names are compared, and each may name a region of shared memory that is copied. */
export const inputsMax = 1_024;

/** @throws RepositoryError for an input that comes twice, or one too many */
export function checkNewInput(inputs: readonly Tensor[], name: string, id: string): void {
  if (inputs.length >= inputsMax) {
    const message = `${requestPrefix(id)}the request has over ${inputsMax} inputs (inputsMax); no model takes so many`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  if (!inputs.some((input) => input.name === name)) return;
  const message = `${requestPrefix(id)}input '${name}' already exists in request`;
  throw new RepositoryError('INVALID_ARGUMENT', message);
}

/**
 * Reads the body of an `infer` request: JSON, and after it the bytes of its binary tensors.
 * @param headerLength bytes of JSON; 0: the body is one raw tensor
 * @throws RepositoryError with tritonserver's text
 */
export function parseInferBody(
  body: Buffer,
  headerLength: number,
  model: Model,
  sharedMemory: SharedMemory,
): ParsedRequest {
  if (headerLength === 0) return rawRequest(body, model);
  const json = parseJson(body.subarray(0, headerLength));
  const members = objectOf(json);
  const idJson = members?.get('id');
  const id = idJson === undefined ? '' : prefixed("Unable to parse 'id'", () => asString(idJson));
  const parameters = httpParameters(members?.get('parameters'));
  const inputs = parseInputs(json, new BinaryBody(body, headerLength, model.name), id, sharedMemory);
  const wishes = parseOutputs(members, sharedMemory);
  const defaultIsBinary = parameters.binaryDataOutput ?? false;
  return { request: inferRequest(id, inputs, wishes, parameters), wishes, defaultIsBinary, parameters };
}

/** The bytes behind the JSON, taken in order. */
class BinaryBody {
  readonly #body: Buffer;
  readonly #modelName: string;
  #at: number;

  constructor(body: Buffer, start: number, modelName: string) {
    this.#body = body;
    this.#at = start;
    this.#modelName = modelName;
  }

  take(input: string, size: number): Buffer {
    const missing = size - (this.#body.length - this.#at);
    if (missing > 0) {
      const message = `unexpected size for input '${input}', expecting ${missing} additional bytes for model '${this.#modelName}'`;
      throw new RepositoryError('INVALID_ARGUMENT', message);
    }
    this.#at += size;
    return this.#body.subarray(this.#at - size, this.#at);
  }

  finish(): void {
    if (this.#at === this.#body.length) return;
    const message = `unexpected additional input data for model '${this.#modelName}'`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
}

function parseInputs(json: Json, binary: BinaryBody, id: string, sharedMemory: SharedMemory): Tensor[] {
  const list = prefixed("Unable to parse 'inputs'", () => asArray(memberOf(json, 'inputs')));
  const inputs: Tensor[] = [];
  for (const one of list) {
    checkOneSource(one);
    const name = prefixed("Unable to parse 'name'", () => asString(memberOf(one, 'name')));
    const word = prefixed("Unable to parse 'datatype'", () => asString(memberOf(one, 'datatype')));
    if (!isDataType(word))
      throw new RepositoryError('INVALID_ARGUMENT', `invalid datatype for input ${name}`);
    const shape = prefixed("Unable to parse 'shape'", () => asArray(memberOf(one, 'shape')).map(asUnsigned));
    checkNewInput(inputs, name, id);
    const data = inputData(one, name, word, shape, binary, sharedMemory);
    inputs.push({ name, datatype: word, shape: shape.map(Number), data });
  }
  binary.finish();
  return inputs;
}

/** Exactly one of the three ways to give a tensor's data. */
function checkOneSource(input: Json): void {
  const parameters = objectOf(objectOf(input)?.get('parameters'));
  const set = [
    ...(objectOf(input)?.has('data') ? ["'data'"] : []),
    ...(parameters?.has('binary_data_size') ? ["'binary_data_size'"] : []),
    ...(parameters?.has('shared_memory_region') ? ["'shared_memory_region'"] : []),
  ];
  if (set.length === 1) return;
  throw new RepositoryError(
    'INVALID_ARGUMENT',
    "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', " +
      `'shared_memory_region' in 'parameters'. But ${set.length === 0 ? 'no field is set' : `set ${set.join(' ')}`}`,
  );
}

function inputData(
  input: Json,
  name: string,
  datatype: DataType,
  shape: readonly (number | bigint)[],
  binary: BinaryBody,
  sharedMemory: SharedMemory,
): Uint8Array {
  const parameters = objectOf(objectOf(input)?.get('parameters'));
  const size = parameters?.get('binary_data_size');
  if (size !== undefined) {
    return binary.take(name, Number(prefixed("Unable to parse 'binary_data_size'", () => asUnsigned(size))));
  }
  const range = parameters && regionRange(parameters);
  if (range) return sharedMemory.read(range);
  return dataOfJson(name, datatype, wireElementCount(shape), memberOf(input, 'data'));
}

/** The shared memory parameters of a tensor, if it has them. */
function regionRange(parameters: JsonObject): OutputWish['sharedMemory'] {
  const region = parameters.get('shared_memory_region');
  if (region === undefined) return undefined;
  const number = (name: string): number => {
    const value = parameters.get(name);
    return value === undefined ? 0 : Number(prefixed(`Unable to parse '${name}'`, () => asUnsigned(value)));
  };
  return {
    region: prefixed("Unable to parse 'shared_memory_region'", () => asString(region)),
    offset: number('shared_memory_offset'),
    byteSize: number('shared_memory_byte_size'),
  };
}

function parseOutputs(members: JsonObject | undefined, sharedMemory: SharedMemory): Map<string, OutputWish> {
  const wishes = new Map<string, OutputWish>();
  const json = members?.get('outputs');
  if (json === undefined) return wishes;
  for (const one of prefixed("Unable to parse 'outputs'", () => asArray(json))) {
    const name = prefixed("Unable to parse 'name'", () => asString(memberOf(one, 'name')));
    wishes.set(name, outputWish(name, objectOf(objectOf(one)?.get('parameters')) ?? new Map(), sharedMemory));
  }
  return wishes;
}

function outputWish(name: string, parameters: JsonObject, sharedMemory: SharedMemory): OutputWish {
  const classification = parameters.get('classification');
  const binary = parameters.get('binary_data');
  const wish: OutputWish = {
    name,
    classCount:
      classification === undefined
        ? 0
        : Number(prefixed("Unable to set 'classification'", () => asUnsigned(classification))),
    isBinary:
      binary === undefined ? false : prefixed("Unable to parse 'binary_data'", () => asBoolean(binary)),
  };
  if (!parameters.has('shared_memory_region')) return wish;
  const excluded =
    classification !== undefined ? 'classification' : wish.isBinary ? 'binary_data' : undefined;
  if (excluded) {
    const message = `Output can't set both 'shared_memory_region' and '${excluded}'`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  wish.sharedMemory = regionRange(parameters);
  if (wish.sharedMemory) sharedMemory.check(wish.sharedMemory);
  return wish;
}

/** A body that is one tensor and nothing else, for models of one input; its shape is deduced, and all outputs come as bytes. */
function rawRequest(body: Buffer, model: Model): ParsedRequest {
  const { input, max_batch_size: batchSizeMax, name: modelName } = model.config;
  const only = input[0];
  if (!only || input.length > 1) {
    throw new RepositoryError(
      'INVALID_ARGUMENT',
      `${requestPrefix('')}Raw request must only have 1 input (found 1) to be deduced but got ${input.length} inputs in ` +
        `'${modelName}' model configuration`,
    );
  }
  const datatype = dataTypeOf(only.data_type) ?? 'UINT8';
  const isText = datatype === 'BYTES';
  const elements = isText ? 1 : Math.floor(body.length / elementBytes[datatype]);
  const fixed = only.dims.reduce((product, dimension) => (dimension > 0 ? product * dimension : product), 1);
  const shape = only.dims.map((dimension) => (dimension > 0 ? dimension : Math.floor(elements / fixed)));
  if (!isText && shape.reduce((a, b) => a * b, 1) * elementBytes[datatype] !== body.length) {
    const expected = shape.reduce((a, b) => a * b, 1) * elementBytes[datatype];
    const message = `${requestPrefix('')}input byte size mismatch for input 'raw_input' for model '${modelName}'. Expected ${expected}, got ${body.length}`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  const data = isText ? encodeBytes([body]) : body;
  const tensor: Tensor = { name: only.name, datatype, shape: batchSizeMax > 0 ? [1, ...shape] : shape, data };
  const parameters = httpParameters(undefined);
  const wishes = new Map<string, OutputWish>();
  return {
    request: inferRequest('', [tensor], wishes, parameters),
    wishes,
    defaultIsBinary: true,
    parameters,
  };
}

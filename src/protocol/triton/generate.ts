import { RepositoryError } from '../../repository/errors.ts';
import type { Model, TensorMetadata } from '../../repository/model.ts';
import type { Tensor } from '../../repository/tensor.ts';
import { type Json, type JsonObject, parseJson } from './json-parser.ts';
import { asString, membersOf, objectOf, prefixed } from './json-values.ts';
import { boundParameters, customParameter, type RequestParameters } from './parameters.ts';
import { checkNewInput, inferRequest, type ParsedRequest } from './requests.ts';
import { tensorOfJson } from './tensors-json.ts';

/**
 * Reads the body of `generate` and `generate_stream`: members that are named like an input become tensors, `id` the request's id, the
 * members of `parameters` are taken as if they stood outside, all others are parameters of the request.
 * @throws RepositoryError with tritonserver's text
 */
export function parseGenerateBody(body: Buffer, model: Model): ParsedRequest {
  const members = membersOf(parseJson(body));
  const idJson = members.get('id');
  const id = idJson === undefined ? '' : prefixed("Unable to parse 'id'", () => asString(idJson));
  const parameters: RequestParameters = { custom: Object.create(null) };
  const inputs: Tensor[] = [];
  take(members, model, inputs, parameters, id);
  const wishes = new Map<string, never>();
  return {
    request: inferRequest(id, inputs, wishes, parameters),
    wishes,
    defaultIsBinary: false,
    parameters,
  };
}

function take(
  members: JsonObject,
  model: Model,
  inputs: Tensor[],
  parameters: RequestParameters,
  id: string,
): void {
  boundParameters(members.size);
  for (const [name, value] of members) {
    if (name === 'id') continue;
    if (name === 'parameters') {
      const inner = prefixed("Expected JSON object for keyword: 'parameters'", () => nested(value));
      prefixed("Converting keyword: 'parameters'", () => take(inner, model, inputs, parameters, id));
      continue;
    }
    const input = model.metadata.inputs.find((one) => one.name === name);
    if (!input) {
      parameters.custom[name] = customParameter(name, value);
      continue;
    }
    checkNewInput(inputs, name, id);
    inputs.push(inputTensor(input, value));
  }
}

function nested(value: Json): JsonObject {
  const members = objectOf(value);
  if (!members) throw new RepositoryError('INTERNAL', 'attempt to access JSON non-object as object');
  return members;
}

/** A scalar or a flat list; its shape is made up from the metadata. */
function inputTensor({ name, datatype, shape: metadataShape }: TensorMetadata, value: Json): Tensor {
  const elements = Array.isArray(value) ? value : [value];
  const shape = filledShape(metadataShape, elements.length);
  if (!shape) {
    const message = `The schema can not convert input '${name}' to tensor with proper shape`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  // Lists within the list count as one element each, so that their elements would be too many.
  return tensorOfJson(name, datatype, shape, elements);
}

/** Fixed sizes divide the count, the innermost open one takes the rest, other open ones are 1; undefined where that does not go up. */
function filledShape(shape: readonly number[], count: number): number[] | undefined {
  let rest = count;
  for (const dimension of shape) {
    if (dimension <= 0) continue;
    if (rest % dimension !== 0) return undefined;
    rest /= dimension;
  }
  const open = shape.lastIndexOf(-1);
  if (open < 0 && rest !== 1) return undefined;
  return shape.map((dimension, index) => (dimension >= 0 ? dimension : index === open ? rest : 1));
}

import type { Parameters, ParameterValue } from '../../repository/model.ts';
import { elementCount } from '../../repository/tensor.ts';
import { doubleText } from './json-values.ts';
import type { WireOutput } from './outputs.ts';
import { elementsAsJson } from './tensors-json.ts';

/** An HTTP answer, whole. */
export interface HttpAnswer {
  status: number;
  contentType: string;
  body: string | Buffer;
  /** Set where bytes follow the JSON: `Inference-Header-Content-Length`. */
  headerLength?: number;
  encoding?: string;
}

export const jsonType = 'application/json';
export const textType = 'text/plain';
const binaryType = 'application/octet-stream';

/** An answer of JSON. */
export function jsonAnswer(value: unknown): HttpAnswer {
  return { status: 200, contentType: jsonType, body: JSON.stringify(value) };
}

/** Whose response it is. */
export interface ResponseNames {
  id: string;
  modelName: string;
  modelVersion: string;
}

/** The body of an `infer` response; members stand in tritonserver's order. @throws RepositoryError for FP16 and BF16 in JSON */
export function inferAnswer(
  { id, modelName, modelVersion }: ResponseNames,
  outputs: readonly WireOutput[],
  parameters: Parameters | undefined,
): HttpAnswer {
  const members = [
    ...(id === '' ? [] : [`"id":${JSON.stringify(id)}`]),
    `"model_name":${JSON.stringify(modelName)}`,
    `"model_version":${JSON.stringify(modelVersion)}`,
    ...(parameters && Object.keys(parameters).length > 0
      ? [`"parameters":${parametersJson(parameters)}`]
      : []),
    `"outputs":[${outputs.map(outputJson).join(',')}]`,
  ];
  const json = `{${members.join(',')}}`;
  const bytes = outputs
    .filter((output) => output.isBinary && !output.sharedMemory)
    .map(({ tensor }) => tensor.data);
  if (bytes.length === 0) return { status: 200, contentType: jsonType, body: json };
  const head = Buffer.from(json);
  return {
    status: 200,
    contentType: binaryType,
    body: Buffer.concat([head, ...bytes]),
    headerLength: head.length,
  };
}

function outputJson({ tensor, isBinary, sharedMemory }: WireOutput): string {
  const { name, datatype, shape, data } = tensor;
  const head = `"name":${JSON.stringify(name)},"datatype":"${datatype}","shape":[${shape.join(',')}]`;
  if (sharedMemory) return `{${head}}`;
  if (isBinary) return `{${head},"parameters":{"binary_data_size":${data.length}}}`;
  return `{${head},"data":[${elementsAsJson(tensor).join(',')}]}`;
}

function parametersJson(parameters: Parameters): string {
  const members = Object.entries(parameters).map(
    ([name, value]) => `${JSON.stringify(name)}:${parameterJson(value)}`,
  );
  return `{${members.join(',')}}`;
}

function parameterJson(value: ParameterValue): string {
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : doubleText(value);
  return JSON.stringify(value);
}

/** The JSON of one `generate` response: members by name; one element is a scalar, others are flat lists. */
export function generateJson(
  { id, modelName, modelVersion }: ResponseNames,
  outputs: readonly WireOutput[],
  parameters: Parameters | undefined,
): string {
  const members = new Map<string, string>();
  if (id !== '') members.set('id', JSON.stringify(id));
  members.set('model_name', JSON.stringify(modelName));
  members.set('model_version', JSON.stringify(modelVersion));
  for (const [name, value] of Object.entries(parameters ?? {})) members.set(name, parameterJson(value));
  for (const { tensor } of outputs) {
    const elements = elementsAsJson(tensor);
    members.set(
      tensor.name,
      elementCount(tensor.shape) === 1 ? (elements[0] as string) : `[${elements.join(',')}]`,
    );
  }
  const sorted = [...members].sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${sorted.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(',')}}`;
}

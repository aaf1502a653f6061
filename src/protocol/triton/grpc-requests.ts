import { RepositoryError } from '../../repository/errors.ts';
import {
  type DataType,
  encodeBytes,
  isDataType,
  type NumericDataType,
  type Tensor,
} from '../../repository/tensor.ts';
import type {
  WireContents,
  WireInferRequest,
  WireInput,
  WireParameters,
  WireRequestedOutput,
} from './messages.ts';
import type { OutputWish } from './outputs.ts';
import { grpcParameters } from './parameters.ts';
import { checkNewInput, inferRequest, type ParsedRequest, requestPrefix } from './requests.ts';
import type { RegionRange, SharedMemory } from './shared-memory.ts';

function refuse(message: string): never {
  throw new RepositoryError('INVALID_ARGUMENT', message);
}

/** `ModelInferRequest` as the repository takes it. @throws RepositoryError with tritonserver's text */
export function parseInferMessage(message: WireInferRequest, sharedMemory: SharedMemory): ParsedRequest {
  const parameters = grpcParameters(message.parameters);
  const wishes = new Map<string, OutputWish>();
  const inputs: Tensor[] = [];
  const raw = { contents: message.rawInputContents, next: 0 };
  for (const input of message.inputs) {
    checkNewInput(inputs, input.name, message.id);
    const isUnknown = !isDataType(input.datatype);
    const datatype = (isUnknown ? '<invalid>' : input.datatype) as DataType;
    const data = inputData(input, message.modelName, raw, sharedMemory, isUnknown);
    checkShape(input, message);
    inputs.push({ name: input.name, datatype, shape: input.shape.map(Number), data });
  }
  for (const output of message.outputs) wishes.set(output.name, outputWish(output, sharedMemory));
  return {
    request: inferRequest(message.id, inputs, wishes, parameters),
    wishes,
    defaultIsBinary: true,
    parameters,
  };
}

function checkShape({ name, shape }: WireInput, { id, modelName }: WireInferRequest): void {
  if (!shape.some((dimension) => dimension < 0)) return;
  refuse(
    `${requestPrefix(id)}All input dimensions should be specified for input '${name}' for model '${modelName}', got [${shape.join(',')}]`,
  );
}

/** Raw contents belong in order to the inputs that are not in shared memory; without any, contents are typed. */
function inputData(
  input: WireInput,
  modelName: string,
  raw: { contents: readonly Buffer[]; next: number },
  sharedMemory: SharedMemory,
  isUnknownType: boolean,
): Uint8Array {
  const range = regionRange(input.name, input.parameters);
  const about = `'${input.name}' for model '${modelName}'`;
  if (range) {
    if (input.contents)
      refuse(`unexpected 'content' provided when using shared memory for input tensor ${about}`);
    return sharedMemory.read(range);
  }
  if (input.contents && raw.contents.length > 0) {
    refuse(`contents field must not be specified when using raw_input_contents for ${about}`);
  }
  if (input.contents && !isUnknownType) return typedData(input, input.contents, modelName);
  const bytes = raw.contents[raw.next++];
  if (bytes === undefined) refuse(`unable to find data for input tensor ${about} in request.`);
  return bytes;
}

/** Which datatypes each field of `InferTensorContents` holds; the first names the field in errors. */
const typesOfField: Readonly<Record<number, readonly DataType[]>> = {
  1: ['BOOL'],
  2: ['INT32', 'INT16', 'INT8'],
  3: ['INT64'],
  4: ['UINT32', 'UINT16', 'UINT8'],
  5: ['UINT64'],
  6: ['FP32'],
  7: ['FP64'],
  8: ['BYTES'],
};

function typedData(input: WireInput, { numbers, bytes }: WireContents, modelName: string): Uint8Array {
  const about = `unexpected explicit tensor data for input tensor '${input.name}' for model '${modelName}'`;
  const fields = [...numbers.keys(), ...(bytes.length > 0 ? [8] : [])].sort((a, b) => a - b);
  fields.forEach((field, index) => {
    const types = typesOfField[field] ?? [];
    if (index > 0) refuse(`${about}, binary data was already supplied.`);
    if (!types.includes(input.datatype as DataType)) {
      refuse(`${about} of type '${types[0]}', expected datatype '${input.datatype}'`);
    }
  });
  const field = fields[0];
  if (field === undefined) return new Uint8Array(0);
  if (field === 8) return encodeBytes(bytes);
  return numericBytes(input.datatype as NumericDataType, numbers.get(field) ?? []);
}

type Write = (data: DataView, at: number, value: bigint | number) => void;

const writers: Readonly<Partial<Record<NumericDataType, readonly [number, Write]>>> = {
  BOOL: [1, (data, at, value) => data.setUint8(at, value ? 1 : 0)],
  UINT8: [1, (data, at, value) => data.setUint8(at, low(value))],
  INT8: [1, (data, at, value) => data.setInt8(at, low(value))],
  UINT16: [2, (data, at, value) => data.setUint16(at, low(value), true)],
  INT16: [2, (data, at, value) => data.setInt16(at, low(value), true)],
  UINT32: [4, (data, at, value) => data.setUint32(at, low(value), true)],
  INT32: [4, (data, at, value) => data.setInt32(at, low(value), true)],
  UINT64: [8, (data, at, value) => data.setBigUint64(at, BigInt(value), true)],
  INT64: [8, (data, at, value) => data.setBigInt64(at, BigInt(value), true)],
  FP32: [4, (data, at, value) => data.setFloat32(at, Number(value), true)],
  FP64: [8, (data, at, value) => data.setFloat64(at, Number(value), true)],
};

function low(value: bigint | number): number {
  return Number(BigInt.asIntN(32, BigInt(value)));
}

function numericBytes(datatype: NumericDataType, values: readonly (bigint | number)[]): Uint8Array {
  const found = writers[datatype];
  if (!found) return new Uint8Array(0);
  const [size, write] = found;
  const bytes = new Uint8Array(values.length * size);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < values.length; i++) write(view, i * size, values[i] as bigint | number);
  return bytes;
}

function outputWish({ name, parameters }: WireRequestedOutput, sharedMemory: SharedMemory): OutputWish {
  const wish: OutputWish = { name, isBinary: true, classCount: 0 };
  const range = regionRange(name, parameters);
  const classification = parameters.get('classification');
  if (classification) {
    if (classification.kind !== 'int64') {
      refuse("invalid value type for 'classification' parameter, expected int64_param");
    }
    wish.classCount = Number(classification.value);
    if (!(wish.classCount > 0)) refuse("invalid value for 'classification' parameter, expected >= 0");
    if (range) refuse("output can't set both 'shared_memory_region' and 'classification'");
  }
  if (!range) return wish;
  sharedMemory.check(range);
  wish.sharedMemory = range;
  return wish;
}

const regionName = 'shared_memory_region';

/** The shared memory parameters of a tensor, if it has them. */
function regionRange(tensor: string, parameters: WireParameters): RegionRange | undefined {
  if (parameters.size === 0) return undefined;
  const region = parameters.get(regionName);
  const wrong = (name: string, type: string): never =>
    refuse(`invalid value type for '${name}' parameter for tensor '${tensor}', expected ${type}.`);
  if (region && region.kind !== 'string') wrong(regionName, 'string_param');
  const number = (name: string): number | undefined => {
    const parameter = parameters.get(name);
    if (!parameter) return undefined;
    if (!region)
      refuse(`'${name}' can not be specified without '${regionName}' parameter for tensor '${tensor}'`);
    if (parameter.kind !== 'int64') wrong(name, 'int64_param');
    return Number(parameter.value);
  };
  const offset = number('shared_memory_offset') ?? 0;
  const byteSize = number('shared_memory_byte_size');
  if (!region) return undefined;
  if (byteSize === undefined) {
    refuse(
      `'shared_memory_byte_size' must be specified along with '${regionName}' parameter for tensor '${tensor}'`,
    );
  }
  return { region: region.value as string, offset, byteSize };
}

import type { ParameterValue } from '../../repository/model.ts';
import type { MessageCodec } from '../proto-messages.ts';
import { ProtoReader, ProtoWriter } from '../protobuf.ts';
import type { WireOutput } from './outputs.ts';

/** The inference messages of `proto/grpc_service.proto` by hand: they are the token path. Field numbers stand beside each field. */

/** `InferParameter`; 'none' where no value is set. */
export interface WireParameter {
  kind: 'bool' | 'int64' | 'string' | 'double' | 'uint64' | 'none';
  value: ParameterValue | undefined;
}

/** In the order of the message; of equal names the last counts. */
export type WireParameters = Map<string, WireParameter>;

/** `InferTensorContents`: the fields that hold something, by field number. */
export interface WireContents {
  /** bool 1, int 2, int64 3, uint 4, uint64 5 as bigints; fp32 6, fp64 7 as numbers. */
  numbers: Map<number, (bigint | number)[]>;
  bytes: Buffer[];
}

/** `InferInputTensor`. */
export interface WireInput {
  name: string;
  datatype: string;
  shape: (number | bigint)[];
  parameters: WireParameters;
  contents: WireContents | undefined;
}

/** `InferRequestedOutputTensor`. */
export interface WireRequestedOutput {
  name: string;
  parameters: WireParameters;
}

/** `ModelInferRequest`. Byte fields are views into the message. */
export interface WireInferRequest {
  modelName: string;
  modelVersion: string;
  id: string;
  parameters: WireParameters;
  inputs: WireInput[];
  outputs: WireRequestedOutput[];
  rawInputContents: Buffer[];
}

/** Decodes `ModelInferRequest`; servers never encode one. */
export const inferRequestCodec: MessageCodec<WireInferRequest> = {
  encode: () => {
    throw new Error('a server does not write inference requests');
  },
  decode: decodeInferRequest,
};

function decodeInferRequest(bytes: Uint8Array): WireInferRequest {
  const request: WireInferRequest = {
    modelName: '',
    modelVersion: '',
    id: '',
    parameters: new Map(),
    inputs: [],
    outputs: [],
    rawInputContents: [],
  };
  const reader = new ProtoReader(bytes);
  for (let field = reader.field(); field !== 0; field = reader.field()) {
    if (field === 1) request.modelName = reader.string();
    else if (field === 2) request.modelVersion = reader.string();
    else if (field === 3) request.id = reader.string();
    else if (field === 4) readParameter(reader, request.parameters);
    else if (field === 5) request.inputs.push(readInput(reader));
    else if (field === 6) request.outputs.push(readRequestedOutput(reader));
    else if (field === 7) request.rawInputContents.push(reader.bytes());
    else reader.skip();
  }
  return request;
}

function readInput(reader: ProtoReader): WireInput {
  const input: WireInput = { name: '', datatype: '', shape: [], parameters: new Map(), contents: undefined };
  reader.message(() => {
    for (let field = reader.field(); field !== 0; field = reader.field()) {
      if (field === 1) input.name = reader.string();
      else if (field === 2) input.datatype = reader.string();
      else if (field === 3)
        reader.varints((value) => input.shape.push(exactInteger(BigInt.asIntN(64, value))));
      else if (field === 4) readParameter(reader, input.parameters);
      else if (field === 5) input.contents = readContents(reader);
      else reader.skip();
    }
  });
  return input;
}

function exactInteger(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function readRequestedOutput(reader: ProtoReader): WireRequestedOutput {
  const output: WireRequestedOutput = { name: '', parameters: new Map() };
  reader.message(() => {
    for (let field = reader.field(); field !== 0; field = reader.field()) {
      if (field === 1) output.name = reader.string();
      else if (field === 2) readParameter(reader, output.parameters);
      else reader.skip();
    }
  });
  return output;
}

function readContents(reader: ProtoReader): WireContents {
  const contents: WireContents = { numbers: new Map(), bytes: [] };
  reader.message(() => {
    for (let field = reader.field(); field !== 0; field = reader.field()) {
      if (field === 8) {
        contents.bytes.push(reader.bytes());
        continue;
      }
      if (field > 8) {
        reader.skip();
        continue;
      }
      const values = contents.numbers.get(field) ?? [];
      contents.numbers.set(field, values);
      if (field >= 6) reader.floats(field === 6 ? 4 : 8, (value) => values.push(value));
      else reader.varints((value) => values.push(value));
    }
  });
  return contents;
}

/** One entry of a map of parameters. */
function readParameter(reader: ProtoReader, into: WireParameters): void {
  let name = '';
  let parameter: WireParameter = { kind: 'none', value: undefined };
  reader.message(() => {
    for (let field = reader.field(); field !== 0; field = reader.field()) {
      if (field === 1) name = reader.string();
      else if (field === 2) parameter = readParameterValue(reader);
      else reader.skip();
    }
  });
  into.set(name, parameter);
}

function readParameterValue(reader: ProtoReader): WireParameter {
  let parameter: WireParameter = { kind: 'none', value: undefined };
  reader.message(() => {
    for (let field = reader.field(); field !== 0; field = reader.field()) {
      if (field === 1) parameter = { kind: 'bool', value: reader.bool() };
      else if (field === 2) parameter = { kind: 'int64', value: reader.int64() };
      else if (field === 3) parameter = { kind: 'string', value: reader.string() };
      else if (field === 4) parameter = { kind: 'double', value: reader.double() };
      else if (field === 5) parameter = { kind: 'uint64', value: reader.uint64() };
      else reader.skip();
    }
  });
  return parameter;
}

/** What responses of one request have in common. */
export interface ResponseHead {
  modelName: string;
  modelVersion: string;
  id: string;
}

/** What differs between them. */
export interface ResponseBody {
  outputs: readonly WireOutput[];
  parameters?: Readonly<Record<string, ParameterValue>>;
  /** Streams only: `triton_final_response`. */
  isFinal?: boolean;
}

const writer = new ProtoWriter();

/** `ModelInferResponse`. */
export function encodeInferResponse(head: ResponseHead, body: ResponseBody): Buffer {
  writeInferResponse(head, body);
  return writer.take();
}

/** `ModelStreamInferResponse`, with an error message or without. */
export function encodeStreamResponse(head: ResponseHead, body: ResponseBody, errorMessage = ''): Buffer {
  writer.string(1, errorMessage);
  const response = writer.begin(2);
  writeInferResponse(head, body);
  writer.end(response);
  return writer.take();
}

function writeInferResponse(head: ResponseHead, { outputs, parameters, isFinal }: ResponseBody): void {
  writer.string(1, head.modelName);
  writer.string(2, head.modelVersion);
  writer.string(3, head.id);
  if (parameters) for (const name in parameters) writeParameter(4, name, parameters[name] as ParameterValue);
  if (isFinal !== undefined) writeParameter(4, 'triton_final_response', isFinal);
  for (const output of outputs) writeOutput(output);
  // A tensor in shared memory has an empty entry: raw contents match the outputs by position.
  for (const { tensor, sharedMemory } of outputs) writer.bytes(6, sharedMemory ? nothing : tensor.data);
}

const nothing = new Uint8Array(0);

/** That a tensor lies in shared memory is said over HTTP only, as tritonserver has it. */
function writeOutput({ tensor }: WireOutput): void {
  const output = writer.begin(5);
  writer.string(1, tensor.name);
  writer.string(2, tensor.datatype);
  writer.packedIntegers(3, tensor.shape);
  writer.end(output);
}

function writeParameter(field: number, name: string, value: ParameterValue): void {
  const entry = writer.begin(field);
  writer.stringAlways(1, name);
  const start = writer.begin(2);
  if (typeof value === 'boolean') writer.bool(1, value);
  else if (typeof value === 'string') writer.stringAlways(3, value);
  else if (typeof value === 'bigint' || Number.isInteger(value)) writer.integer(2, value);
  else writer.double(4, value);
  writer.end(start);
  writer.end(entry);
}

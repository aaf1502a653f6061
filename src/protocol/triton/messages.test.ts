import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { messageCodec } from '../proto-messages.ts';
import { ProtobufError } from '../protobuf.ts';
import { encodeInferResponse, encodeStreamResponse, inferRequestCodec } from './messages.ts';

const requests = messageCodec('grpc_service.proto', 'inference.ModelInferRequest');

test('requests are read as protobufjs writes them', () => {
  const bytes = requests.encode({
    model_name: 'm',
    model_version: '2',
    id: 'é',
    parameters: { a: { int64_param: -3 }, b: { bool_param: true }, c: { double_param: 0.5 }, d: {} },
    inputs: [
      {
        name: 'x',
        datatype: 'INT32',
        shape: [2, -1],
        contents: { int_contents: [1, -2], uint_contents: [3] },
      },
      {
        name: 'f',
        datatype: 'FP32',
        shape: [1],
        contents: { fp32_contents: [0.5], bytes_contents: [Buffer.from('q')] },
      },
    ],
    outputs: [{ name: 'y', parameters: { classification: { int64_param: 2 } } }],
    raw_input_contents: [Buffer.from([1, 2]), Buffer.alloc(0)],
  });
  const read = inferRequestCodec.decode(bytes);
  assert.deepEqual([read.modelName, read.modelVersion, read.id], ['m', '2', 'é']);
  assert.deepEqual(
    [...read.parameters],
    [
      ['a', { kind: 'int64', value: -3 }],
      ['b', { kind: 'bool', value: true }],
      ['c', { kind: 'double', value: 0.5 }],
      ['d', { kind: 'none', value: undefined }],
    ],
  );
  assert.deepEqual(read.inputs[0]?.shape, [2, -1]);
  assert.deepEqual(
    read.inputs[0]?.contents?.numbers.get(2)?.map((value) => BigInt.asIntN(32, BigInt(value))),
    [1n, -2n],
  );
  assert.deepEqual(read.inputs[1]?.contents?.numbers.get(6), [0.5]);
  assert.equal(read.inputs[1]?.contents?.bytes[0]?.toString(), 'q');
  assert.deepEqual(read.outputs[0]?.parameters.get('classification'), { kind: 'int64', value: 2 });
  assert.deepEqual(read.rawInputContents, [Buffer.from([1, 2]), Buffer.alloc(0)]);
});

test('responses are what protobufjs reads', () => {
  const head = { modelName: 'm', modelVersion: '1', id: 'i' };
  const tensor = {
    name: 'y',
    datatype: 'INT32',
    shape: [1, 2],
    data: Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0),
  } as const;
  const range = { region: 'r', offset: 4, byteSize: 8 };
  const body = {
    outputs: [
      { tensor, isBinary: true },
      { tensor, isBinary: true, sharedMemory: range },
    ],
    parameters: { flag: true, count: 2n ** 60n, half: 0.5, name: '' },
    isFinal: true,
  };
  const unary = messageCodec('grpc_service.proto', 'inference.ModelInferResponse').decode(
    encodeInferResponse(head, body),
  );
  const streamed = messageCodec('grpc_service.proto', 'inference.ModelStreamInferResponse').decode(
    encodeStreamResponse(head, body, 'oh'),
  );
  assert.deepEqual(streamed.infer_response, unary);
  assert.equal(streamed.error_message, 'oh');
  const outputs = unary.outputs as { shape: number[]; parameters: Record<string, Record<string, unknown>> }[];
  assert.deepEqual(outputs[0]?.shape, [1, 2]);
  assert.deepEqual(outputs[1]?.parameters, {});
  assert.deepEqual(
    (unary.raw_output_contents as Buffer[]).map((bytes) => bytes.length),
    [8, 0],
  );
  const parameters = unary.parameters as Record<string, Record<string, unknown>>;
  assert.equal(parameters.triton_final_response?.bool_param, true);
  assert.equal(parameters.half?.double_param, 0.5);
  assert.equal(parameters.count?.int64_param, 2 ** 60);
});

test('any bytes are a request or refused', () => {
  const valid = requests.encode({ model_name: 'm', inputs: [{ name: 'x', datatype: 'INT32', shape: [1] }] });
  fc.assert(
    fc.property(fc.uint8Array(), fc.nat(valid.length), (bytes, cut) => {
      for (const message of [bytes, Buffer.concat([valid.subarray(0, cut), bytes])]) {
        try {
          inferRequestCodec.decode(message);
        } catch (error) {
          assert.ok(error instanceof ProtobufError, String(error));
        }
      }
    }),
  );
});

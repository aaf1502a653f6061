import assert from 'node:assert/strict';
import { test } from 'node:test';
import { messageCodec } from './proto-messages.ts';
import { ProtobufError, ProtoReader, ProtoWriter } from './protobuf.ts';

test('what is written is what protobufjs reads', () => {
  const writer = new ProtoWriter();
  const long = 'é'.repeat(300);
  writer.string(1, 'model');
  writer.string(2, '');
  writer.string(3, long);
  const entry = writer.begin(4);
  writer.stringAlways(1, 'count');
  const value = writer.begin(2);
  writer.integer(2, -5);
  writer.end(value);
  writer.end(entry);
  const output = writer.begin(5);
  writer.string(1, 'x');
  writer.packedIntegers(3, [1, -1, 300, 2 ** 40]);
  writer.end(output);
  writer.bytes(6, Buffer.alloc(100_000, 7));
  const codec = messageCodec('grpc_service.proto', 'inference.ModelInferResponse');
  const message = codec.decode(writer.take());
  assert.equal(message.id, long);
  assert.deepEqual(message.parameters, { count: { int64_param: -5, parameter_choice: 'int64_param' } });
  assert.deepEqual((message.outputs as { shape: number[] }[])[0]?.shape, [1, -1, 300, 2 ** 40]);
  assert.equal((message.raw_output_contents as Buffer[])[0]?.length, 100_000);
  writer.string(1, 'again');
  assert.equal(codec.decode(writer.take()).model_name, 'again');
});

test('long embedded messages get a long length', () => {
  const writer = new ProtoWriter();
  const start = writer.begin(2);
  writer.bytes(6, Buffer.alloc(70_000, 1));
  writer.end(start);
  const message = messageCodec('grpc_service.proto', 'inference.ModelStreamInferResponse').decode(
    writer.take(),
  );
  const { raw_output_contents } = message.infer_response as { raw_output_contents: Buffer[] };
  assert.deepEqual(raw_output_contents[0], Buffer.alloc(70_000, 1));
});

test('numbers of every size come back', () => {
  const writer = new ProtoWriter();
  const values = [0, 1, 127, 128, 2 ** 32, -1, 2n ** 62n, -(2n ** 63n)];
  for (const value of values) writer.integer(1, value);
  writer.double(2, 0.5);
  writer.bool(3, true);
  const reader = new ProtoReader(writer.take());
  const read = values.map(() => {
    assert.equal(reader.field(), 1);
    return reader.int64();
  });
  assert.deepEqual(read, values);
  assert.equal(reader.field(), 2);
  assert.equal(reader.double(), 0.5);
  assert.equal(reader.field(), 3);
  assert.equal(reader.bool(), true);
  assert.equal(reader.field(), 0);
});

test('damaged bytes are refused and never read past the end', () => {
  const bytes = [[0x0a, 0x05, 0x61], [0x00], [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [0x08], [0x0a]];
  for (const message of bytes) {
    const reader = new ProtoReader(Uint8Array.from(message));
    assert.throws(() => {
      if (reader.field() === 1) reader.string();
    }, ProtobufError);
  }
});

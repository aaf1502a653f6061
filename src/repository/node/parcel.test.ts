import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Tensor } from '../tensor.ts';
import {
  opened,
  type PackedTensor,
  ParcelPacker,
  packedParameters,
  unpacked,
  unpackedParameters,
} from './parcel.ts';

const tensor = (name: string, bytes: number): Tensor => ({
  name,
  datatype: 'UINT8',
  shape: [bytes],
  data: Uint8Array.from({ length: bytes }, (_, index) => (index * 7 + name.length) % 256),
});

for (const [what, sizes] of [
  ['nothing', []],
  ['empty and odd ones', [0, 1, 3, 8, 255]],
  ['more than travels as text', [16_000, 16_000, 16_000]],
  ['one that travels by itself', [100_000, 5]],
] as const) {
  test(`tensors come out as they went in: ${what}`, () => {
    const packer = new ParcelPacker<PackedTensor>();
    // A packer is used again and again.
    for (let round = 0; round < 2; round++) {
      const given = sizes.map((bytes, index) => tensor(`t${round}${index}`, bytes));
      for (const one of given) packer.add(packer.pack(one));
      const { sealed, transfer } = packer.seal();
      assert.ok(packer.isEmpty);
      const parcel = opened<PackedTensor>(structuredClone(sealed, { transfer }));
      const got = parcel.messages.map((one) => unpacked(one, parcel));
      assert.deepEqual(
        got.map(({ data, ...rest }) => ({ ...rest, data: [...data] })),
        given.map(({ data, ...rest }) => ({ ...rest, data: [...data] })),
      );
      for (const { data, name } of got) assert.equal(data.byteOffset % 8, 0, name);
    }
  });
}

test('a tensor is copied when it is packed', () => {
  const packer = new ParcelPacker<PackedTensor>();
  const one = tensor('t', 4);
  packer.add(packer.pack(one));
  const before = [...one.data];
  one.data.fill(0);
  const parcel = opened<PackedTensor>(packer.seal().sealed);
  assert.deepEqual([...unpacked(parcel.messages[0] as PackedTensor, parcel).data], before);
});

test('parameters that JSON cannot carry come out as they went in', () => {
  const parameters = {
    a: 1,
    b: 0.5,
    c: 2n ** 60n,
    d: 'x',
    e: true,
    f: Number.NaN,
    g: Number.NEGATIVE_INFINITY,
  };
  const there = JSON.parse(JSON.stringify(packedParameters(parameters)));
  assert.deepEqual(unpackedParameters(there), parameters);
  assert.deepEqual(unpackedParameters(packedParameters({})), {});
});

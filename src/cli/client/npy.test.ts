import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readNpy } from './npy.ts';

/** As `numpy.save` writes it. */
function npy(head: string, data: Buffer): Buffer {
  const padded = `${head}${' '.repeat(63 - ((10 + head.length) % 64))}\n`;
  const length = Buffer.alloc(2);
  length.writeUInt16LE(padded.length);
  return Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), length, Buffer.from(padded), data]);
}

test('arrays that NumPy saved', async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-npy-'));
  context.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'a.npy');
  const data = Buffer.from(Int32Array.of(1, 2, 3, 4, 5, 6).buffer);
  const head = (descr: string, order = 'False') =>
    `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': (2, 3), }`;
  writeFileSync(path, npy(head('<i4'), data));
  const tensor = await readNpy(path, 'lora_config', 3);
  assert.deepEqual(
    { ...tensor, data: [...tensor.data] },
    {
      name: 'lora_config',
      datatype: 'INT32',
      shape: [1, 2, 3],
      data: [...data],
    },
  );
  for (const [bytes, problem] of [
    [npy(head('<f8'), data), /holds other values than <f2, <f4, <i4/],
    [npy(head('<i4', 'True'), data), /is in Fortran order/],
    [Buffer.from('GGUF'), /is no \.npy file/],
    [Buffer.from('\x93NUMPY\x01', 'latin1'), /ends early/],
  ] as const) {
    writeFileSync(path, bytes);
    await assert.rejects(readNpy(path, 'x', 3), problem);
  }
  await assert.rejects(readNpy(join(folder, 'none.npy'), 'x', 3), /cannot be read/);
});

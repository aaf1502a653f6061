import { readFile } from 'node:fs/promises';
import type { DataType, Tensor } from '../../repository/tensor.ts';
import { CliError } from '../errors.ts';

const magic = '\x93NUMPY';
const datatypes: Readonly<Record<string, DataType>> = { '<f2': 'FP16', '<f4': 'FP32', '<i4': 'INT32' };

/**
 * An array that NumPy saved (format 1 to 3), as a tensor with a batch axis of 1 in front where it has none.
 * @param rank of the tensor
 * @throws CliError CLI_VALUE_INVALID for other files, Fortran order, and types that these clients do not send
 */
export async function readNpy(path: string, name: string, rank: number): Promise<Tensor> {
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw new CliError('CLI_VALUE_INVALID', `${path} cannot be read; give a folder of hf_lora_convert.py`, {
      cause,
    });
  });
  const refuse = (problem: string): CliError =>
    new CliError('CLI_VALUE_INVALID', `${path} ${problem}; give an array that NumPy saved`);
  if (bytes.toString('latin1', 0, magic.length) !== magic) throw refuse('is no .npy file');
  const isLong = (bytes[magic.length] ?? 0) > 1;
  const lengthAt = magic.length + 2;
  if (bytes.length < lengthAt + 4) throw refuse('ends early');
  const headLength = isLong ? bytes.readUInt32LE(lengthAt) : bytes.readUInt16LE(lengthAt);
  const headAt = lengthAt + (isLong ? 4 : 2);
  const head = bytes.toString('latin1', headAt, headAt + headLength);
  const datatype = datatypes[/'descr': '([^']*)'/.exec(head)?.[1] ?? ''];
  if (!datatype) throw refuse(`holds other values than ${Object.keys(datatypes).join(', ')}`);
  if (/'fortran_order': True/.test(head)) throw refuse('is in Fortran order');
  const dimensions = /'shape': \(([^)]*)\)/.exec(head)?.[1] ?? '';
  const shape = dimensions.split(',').flatMap((one) => (one.trim() === '' ? [] : [Number(one)]));
  while (shape.length < rank) shape.unshift(1);
  return { name, datatype, shape, data: bytes.subarray(headAt + headLength) };
}

import { join } from 'node:path';
import protobuf from 'protobufjs';
import { packageRoot } from '../base/entry.ts';

/** The folder of our .proto files, in the package. */
export const protoFolder: string = join(packageRoot, 'proto');

/** A message as plain data: field names as in the .proto, enums by name, 64-bit integers as numbers, bytes as buffers. */
export type PlainMessage = Record<string, unknown>;

/** How one message type is put on the wire. */
export interface MessageCodec<T = PlainMessage> {
  encode(message: T): Buffer;
  decode(bytes: Uint8Array): T;
}

const roots = new Map<string, protobuf.Root>();

/** A parsed .proto file of {@link protoFolder}; parsed once. */
function load(file: string): protobuf.Root {
  let root = roots.get(file);
  if (!root) {
    root = new protobuf.Root();
    root.resolvePath = (_origin, target) => join(protoFolder, target);
    root.loadSync(file, { keepCase: true });
    roots.set(file, root);
  }
  return root;
}

/**
 * The codec of a message type, by protobufjs. The .proto is read at the first message and not before, so that a server's start does not
 * pay for it. For everything but the token path (see `protobuf.ts`).
 * @param file in {@link protoFolder}
 * @param typeName with its package: 'inference.ServerLiveRequest'
 */
export function messageCodec<T extends object = PlainMessage>(
  file: string,
  typeName: string,
): MessageCodec<T> {
  let found: protobuf.Type | undefined;
  const type = (): protobuf.Type => {
    found ??= load(file).lookupType(typeName);
    return found;
  };
  return {
    encode: (message) => Buffer.from(type().encode(type().fromObject(message)).finish()),
    decode: (bytes) => {
      const options = { longs: Number, enums: String, bytes: Buffer, defaults: true, oneofs: true };
      return type().toObject(type().decode(bytes), options) as T;
    },
  };
}

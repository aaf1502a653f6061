import { join } from 'node:path';
import protobuf from 'protobufjs';
import { packageRoot } from '../../base/entry.ts';

/** How a method's two messages are put on the wire. Fields that a message does not have are absent. */
export interface ProtoMessages {
  encode(message: object): Buffer;
  decode(bytes: Buffer): object;
}

/** The codecs of a request and a response type of a .proto file in `proto/`; a client's own, apart from the server's. */
export function protoMessages(file: string, request: string, response: string): ProtoMessages {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => join(packageRoot, 'proto', target);
  root.loadSync(file, { keepCase: true });
  const requestType = root.lookupType(request);
  const responseType = root.lookupType(response);
  return {
    encode: (message) => Buffer.from(requestType.encode(requestType.fromObject(message)).finish()),
    // A decoded message has its fields as properties: no copy to a plain object a token.
    decode: (bytes) => responseType.decode(bytes),
  };
}

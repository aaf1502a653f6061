import { type Client, Metadata, type ServiceError } from '@grpc/grpc-js';
import { messageCodec, type PlainMessage } from '../../src/protocol/proto-messages.ts';
import type { GrpcCase } from './grpc-case.ts';

/** What a server said, as the goldens keep it: bytes in base64, fields at their defaults left out. */
export interface RecordedCall {
  code: number;
  details: string;
  responses: unknown[];
}

const protoFile = 'grpc_service.proto';

/** Makes one call and gathers everything until its status. */
export function askGrpc(
  client: Client,
  { method, requests, metadata = {} }: GrpcCase,
): Promise<RecordedCall> {
  const request = messageCodec(
    protoFile,
    `inference.${method === 'ModelStreamInfer' ? 'ModelInfer' : method}Request`,
  );
  const response = messageCodec(protoFile, `inference.${method}Response`);
  const headers = new Metadata();
  for (const [name, value] of Object.entries(metadata)) headers.set(name, value);
  const path = `/inference.GRPCInferenceService/${method}`;
  const encode = (message: PlainMessage) => request.encode(message);
  const decode = (bytes: Buffer) => response.decode(bytes);
  return new Promise((resolve) => {
    const responses: unknown[] = [];
    const end = (error?: ServiceError): void =>
      resolve({ code: error?.code ?? 0, details: error?.details ?? '', responses: responses.map(plain) });
    if (method !== 'ModelStreamInfer') {
      client.makeUnaryRequest(
        path,
        encode,
        decode,
        requests[0] as PlainMessage,
        headers,
        (error, message) => {
          if (message) responses.push(message);
          end(error ?? undefined);
        },
      );
      return;
    }
    const stream = client.makeBidiStreamRequest(path, encode, decode, headers);
    stream.on('data', (message) => responses.push(message));
    stream.on('error', (error: ServiceError) => end(error));
    stream.on('end', () => end());
    for (const one of requests) stream.write(one as PlainMessage);
    stream.end();
  });
}

/** Without defaults and oneof markers, so that what is written down is what was sent. */
function plain(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return `base64:${value.toString('base64')}`;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value)
    .filter(([name, field]) => !isMarker(name, field) && !isDefault(field))
    .map(([name, field]) => [name, plain(field)] as const);
  return Object.fromEntries(entries);
}

function isMarker(name: string, field: unknown): boolean {
  return name.endsWith('_choice') && typeof field === 'string';
}

function isDefault(field: unknown): boolean {
  if (field === 0 || field === '' || field === null) return true;
  if (Array.isArray(field) || Buffer.isBuffer(field)) return field.length === 0;
  return false;
}

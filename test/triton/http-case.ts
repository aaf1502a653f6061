/**
 * HTTP requests whose answers were recorded from a genuine tritonserver 2.51.0 (`http-recorded.json`, by `record.ts`) over the models of
 * `models.ts`. Each is one exchange; those that change the server's state undo it.
 */
export interface HttpCase {
  name: string;
  method: string;
  path: string;
  headers?: Record<string, string>;
  body?: string | Buffer;
}

export const get = (path: string, name = `GET ${path}`): HttpCase => ({ name, method: 'GET', path });
export const post = (
  path: string,
  body: unknown,
  name: string,
  headers?: Record<string, string>,
): HttpCase => ({
  name,
  method: 'POST',
  path,
  headers,
  body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
});

export const int32 = (name: string, shape: number[], data: unknown, more = {}) => ({
  name,
  shape,
  datatype: 'INT32',
  data,
  ...more,
});
export const infer = (
  name: string,
  body: unknown,
  model = 'ident',
  headers?: Record<string, string>,
): HttpCase => post(`/v2/models/${model}/infer`, body, `infer ${model}: ${name}`, headers);
export const generate = (name: string, body: unknown, model = 'batched', stream = false): HttpCase =>
  post(
    `/v2/models/${model}/generate${stream ? '_stream' : ''}`,
    body,
    `generate${stream ? '_stream' : ''} ${model}: ${name}`,
  );

/** A body of the binary extension: JSON, then the tensors' bytes. */
export function binary(
  name: string,
  json: object,
  tensors: Buffer[],
  model = 'ident',
  headerLength?: string,
): HttpCase {
  const head = Buffer.from(JSON.stringify(json));
  const headers = { 'Inference-Header-Content-Length': headerLength ?? String(head.length) };
  return infer(`binary: ${name}`, Buffer.concat([head, ...tensors]), model, headers);
}

export const ones = (...values: number[]) => Buffer.from(Int32Array.from(values).buffer);
export const binaryInput = (size: unknown, shape = [2]) => ({
  inputs: [{ name: 'IN_INT32', shape, datatype: 'INT32', parameters: { binary_data_size: size } }],
  outputs: [{ name: 'OUT_INT32' }],
});
export const x = int32('IN_INT32', [2], [1, 2]);
export const onlyOut = { outputs: [{ name: 'OUT_INT32' }] };
export const of = (datatype: string, data: unknown[], shape = [data.length]) => ({
  inputs: [{ name: `IN_${datatype === 'BYTES' ? 'STRING' : datatype}`, shape, datatype, data }],
  outputs: [{ name: `OUT_${datatype === 'BYTES' ? 'STRING' : datatype}` }],
});

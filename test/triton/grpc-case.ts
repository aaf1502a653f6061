/** gRPC calls whose answers were recorded from a genuine tritonserver 2.51.0 (`grpc-recorded.json`, by `record.ts`). */
export interface GrpcCase {
  name: string;
  method: string;
  /** One request; of ModelStreamInfer several, sent at once and then half-closed. */
  requests: object[];
  metadata?: Record<string, string>;
}

export const call = (
  method: string,
  request: object = {},
  name = `${method} ${JSON.stringify(request)}`,
): GrpcCase => ({
  name,
  method,
  requests: [request],
});
export const ints = (...values: number[]) => Buffer.from(Int32Array.from(values).buffer);
export const input = (name: string, shape: number[], more: object = {}, datatype = 'INT32') => ({
  name,
  datatype,
  shape,
  ...more,
});
export const x = input('IN_INT32', [2]);
export const out = [{ name: 'OUT_INT32' }];
export const raw = [ints(1, 2)];
export const ident = (more: object) => ({
  model_name: 'ident',
  inputs: [x],
  outputs: out,
  raw_input_contents: raw,
  ...more,
});
export const infer = (name: string, request: object): GrpcCase =>
  call('ModelInfer', request, `infer: ${name}`);
export const stream = (name: string, requests: object[], metadata?: Record<string, string>): GrpcCase => ({
  name: `stream: ${name}`,
  method: 'ModelStreamInfer',
  requests,
  metadata,
});
export const parameter = (value: object) => ident({ parameters: { p: value } });
export const named = (name: string, value: object) => ident({ parameters: { [name]: value } });
export const shm = (parameters: object) => ident({ inputs: [{ ...x, parameters }], raw_input_contents: [] });
export const repeat = (values: number[], more: object = {}) => ({
  model_name: 'repeat',
  inputs: [input('IN', [values.length])],
  raw_input_contents: [ints(...values)],
  ...more,
});
export const finals = { triton_enable_empty_final_response: { bool_param: true } };

import { Metadata } from '@grpc/grpc-js';
import { monotonicMs } from '../../base/monotonic.ts';
import { callError, GrpcChannels, onCallEnd } from './grpc-channels.ts';
import { requestTensors } from './kserve-tensors.ts';
import { protoMessages } from './proto-messages.ts';
import type { AnswerListener, Target, TargetRequest, TargetSpec } from './target.ts';

interface OutputTensor {
  name: string;
  shape?: (number | { toNumber(): number })[];
  contents?: { int_contents?: number[]; bytes_contents?: Uint8Array[] };
}

interface StreamResponse {
  error_message?: string;
  infer_response?: { outputs?: OutputTensor[]; raw_output_contents?: Uint8Array[] };
}

/** A KServe (Triton) server's gRPC stream: one `ModelStreamInfer` a request, with ids or text by the names of the TensorRT-LLM backend. */
export class KserveGrpcTarget implements Target {
  readonly #spec: TargetSpec;
  readonly #channels: GrpcChannels;
  readonly #metadata = new Metadata();
  readonly #messages = protoMessages(
    'grpc_service.proto',
    'inference.ModelInferRequest',
    'inference.ModelStreamInferResponse',
  );
  #requests = 0;

  constructor(spec: TargetSpec) {
    this.#spec = spec;
    this.#channels = new GrpcChannels(spec.url, spec.channels);
    for (const [name, value] of Object.entries(spec.headers)) this.#metadata.set(name, value);
  }

  send(request: TargetRequest, listener: AnswerListener): () => void {
    const { encode, decode } = this.#messages;
    const { timeoutMs } = this.#spec;
    const call = this.#channels
      .next()
      .makeBidiStreamRequest<object, StreamResponse>(
        '/inference.GRPCInferenceService/ModelStreamInfer',
        encode,
        decode,
        this.#metadata,
        timeoutMs > 0 ? { deadline: Date.now() + timeoutMs } : {},
      );
    let over = false;
    let lastMs = 0;
    const fail = (reason: string): void => {
      if (!over) listener.fail(monotonicMs(), reason);
      over = true;
    };
    call.on('data', (response: StreamResponse) => {
      if (over) return;
      if (response.error_message) {
        fail(response.error_message);
        call.cancel();
        return;
      }
      const output = outputOf(response);
      if (!output) return;
      lastMs = monotonicMs();
      listener.output(lastMs, output.text, output.tokens);
    });
    call.on('error', (error) => fail(callError(error)));
    onCallEnd(call, () => {
      if (!over) listener.end(lastMs || monotonicMs(), {});
    });
    call.write(this.#message(request));
    call.end();
    return () => {
      over = true;
      call.cancel();
    };
  }

  close(): void {
    this.#channels.close();
  }

  #message(request: TargetRequest): object {
    const { sampling, streams } = this.#spec;
    const usual = request.tokens ? 'tensorrt_llm' : 'ensemble';
    const inputs = requestTensors(request, sampling, streams);
    return {
      model_name: request.model ?? (this.#spec.model || usual),
      id: String(this.#requests++),
      inputs: inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
      outputs: [{ name: request.tokens ? 'output_ids' : 'text_output' }],
      raw_input_contents: inputs.map(({ data }) => data),
    };
  }
}

/** The text, or how many ids, of a response; undefined for one without either (the final flag alone). */
function outputOf({
  infer_response: response,
}: StreamResponse): { text: string; tokens?: number } | undefined {
  const outputs = response?.outputs ?? [];
  const index = outputs.findIndex(({ name }) => name === 'output_ids' || name === 'text_output');
  const output = outputs[index];
  if (!output) return undefined;
  const raw = response?.raw_output_contents?.[index];
  if (output.name === 'output_ids') {
    const tokens = raw ? raw.length / 4 : (output.contents?.int_contents?.length ?? 0);
    return { text: '', tokens };
  }
  const bytes = raw ? raw.subarray(4) : (output.contents?.bytes_contents?.[0] ?? new Uint8Array());
  return { text: Buffer.from(bytes).toString('utf8') };
}

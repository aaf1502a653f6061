import { Metadata } from '@grpc/grpc-js';
import { monotonicMs } from '../../base/monotonic.ts';
import { callError, GrpcChannels, onCallEnd } from './grpc-channels.ts';
import { rawContents, valuesOf } from './kserve-bytes.ts';
import { answerOf, requestedOutputs, requestTensors, usualModel, type WireTensor } from './kserve-tensors.ts';
import { protoMessages } from './proto-messages.ts';
import type { AnswerListener, Target, TargetRequest, TargetSpec } from './target.ts';

interface OutputTensor {
  name: string;
  datatype?: string;
  shape?: (number | { toNumber(): number })[];
  contents?: { int_contents?: number[]; bytes_contents?: Uint8Array[] };
}

interface StreamResponse {
  error_message?: string;
  infer_response?: { outputs?: OutputTensor[]; raw_output_contents?: Uint8Array[] };
}

/** One inference as it goes over KServe's gRPC stream. */
export interface KserveRequest {
  model: string;
  inputs: readonly WireTensor[];
  /** Names; none: all. */
  outputs: readonly string[];
}

/** Hears of one inference: each response's tensors, then `end` or `fail`, once. */
export interface KserveListener {
  outputs(atMs: number, outputs: WireTensor[]): void;
  end(): void;
  fail(atMs: number, reason: string): void;
}

/** KServe's gRPC protocol as a client speaks it: one `ModelStreamInfer` a request, which decoupled models and others answer alike. */
export class KserveGrpcCalls {
  readonly #channels: GrpcChannels;
  readonly #timeoutMs: number;
  readonly #metadata = new Metadata();
  readonly #messages = protoMessages(
    'grpc_service.proto',
    'inference.ModelInferRequest',
    'inference.ModelStreamInferResponse',
  );
  #requests = 0;

  /** @throws LoadError LOAD_OPTION_INVALID for an address that is none */
  constructor({
    url,
    channels,
    headers,
    timeoutMs,
  }: Pick<TargetSpec, 'url' | 'channels' | 'headers' | 'timeoutMs'>) {
    this.#channels = new GrpcChannels(url, channels);
    this.#timeoutMs = timeoutMs;
    for (const [name, value] of Object.entries(headers)) this.#metadata.set(name, value);
  }

  /** Sends it now; the returned function cancels it, after which `listener` hears no more. */
  send({ model, inputs, outputs }: KserveRequest, listener: KserveListener): () => void {
    const { encode, decode } = this.#messages;
    const call = this.#channels
      .next()
      .makeBidiStreamRequest<object, StreamResponse>(
        '/inference.GRPCInferenceService/ModelStreamInfer',
        encode,
        decode,
        this.#metadata,
        this.#timeoutMs > 0 ? { deadline: Date.now() + this.#timeoutMs } : {},
      );
    let over = false;
    const fail = (reason: string): void => {
      if (!over) listener.fail(monotonicMs(), reason);
      over = true;
    };
    call.on('data', (response: StreamResponse) => {
      if (over) return;
      const atMs = monotonicMs();
      if (response.error_message) {
        fail(response.error_message);
        call.cancel();
      } else listener.outputs(atMs, tensorsOf(response));
    });
    call.on('error', (error) => fail(callError(error)));
    onCallEnd(call, () => {
      if (!over) listener.end();
    });
    call.write({
      model_name: model,
      id: String(this.#requests++),
      inputs: inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
      outputs: outputs.map((name) => ({ name })),
      raw_input_contents: inputs.map(rawContents),
    });
    call.end();
    return () => {
      over = true;
      call.cancel();
    };
  }

  close(): void {
    this.#channels.close();
  }
}

/** A KServe (Triton) server under load over gRPC, with ids or text by the names of the TensorRT-LLM backend. */
export class KserveGrpcTarget implements Target {
  readonly #spec: TargetSpec;
  readonly #calls: KserveGrpcCalls;

  constructor(spec: TargetSpec) {
    this.#spec = spec;
    this.#calls = new KserveGrpcCalls(spec);
  }

  send(request: TargetRequest, listener: AnswerListener): () => void {
    const { sampling, streams, model } = this.#spec;
    let lastMs = 0;
    return this.#calls.send(
      {
        model: request.model ?? (model || usualModel(request)),
        inputs: requestTensors(request, sampling, streams),
        outputs: requestedOutputs(request),
      },
      {
        outputs: (atMs, outputs) => {
          const answer = answerOf(outputs, request, streams);
          if (!answer) return;
          lastMs = atMs;
          listener.output(atMs, answer.text, answer.tokens);
        },
        end: () => listener.end(lastMs || monotonicMs(), {}),
        fail: (atMs, reason) => listener.fail(atMs, reason),
      },
    );
  }

  close(): void {
    this.#calls.close();
  }
}

function tensorsOf({ infer_response: response }: StreamResponse): WireTensor[] {
  return (response?.outputs ?? []).map(({ name, datatype = '', shape = [], contents }, index) => {
    const raw = response?.raw_output_contents?.[index];
    const values = raw ? valuesOf(datatype, raw) : listed(contents);
    return {
      name,
      datatype,
      shape: shape.map((size) => (typeof size === 'number' ? size : size.toNumber())),
      values,
    };
  });
}

/** Values of a server that does not send raw contents. */
function listed(contents: OutputTensor['contents']): (number | string)[] {
  return (
    contents?.int_contents ??
    contents?.bytes_contents?.map((bytes) => Buffer.from(bytes).toString('utf8')) ??
    []
  );
}

import { HttpClient } from './http-client.ts';
import type { KserveListener, KserveRequest } from './kserve-grpc.ts';
import { answerOf, requestedOutputs, requestTensors, usualModel, type WireTensor } from './kserve-tensors.ts';
import type { AnswerListener, Target, TargetRequest, TargetSpec } from './target.ts';

interface InferAnswer {
  outputs?: { name: string; datatype: string; shape: number[]; data?: unknown[] }[];
  error?: string;
}

/** KServe's HTTP inference (`/v2/models/NAME/infer`, JSON) as a client speaks it: one answer a request, so no decoupled models. */
export class KserveHttpCalls {
  readonly #client: HttpClient;

  /** @throws LoadError LOAD_OPTION_INVALID for a URL that is none */
  constructor({ url, headers, timeoutMs }: Pick<TargetSpec, 'url' | 'headers' | 'timeoutMs'>) {
    this.#client = new HttpClient(url, headers, timeoutMs);
  }

  /** Sends it now; the returned function cancels it, after which `listener` hears no more. */
  send({ model, inputs, outputs }: KserveRequest, listener: KserveListener): () => void {
    const body = JSON.stringify({
      inputs: inputs.map(({ values, ...tensor }) => ({ ...tensor, data: jsonData(tensor.datatype, values) })),
      ...(outputs.length > 0 ? { outputs: outputs.map((name) => ({ name })) } : {}),
    });
    let failed = false;
    return this.#client.post(`/v2/models/${encodeURIComponent(model)}/infer`, body, {
      data: (atMs, data) => {
        const answer = parse(data);
        failed = answer?.outputs === undefined;
        if (answer?.outputs) listener.outputs(atMs, answer.outputs.map(tensorOf));
        else listener.fail(atMs, answer?.error ?? `the answer is no inference: ${data.slice(0, 200)}`);
      },
      end: () => {
        if (!failed) listener.end();
      },
      fail: (atMs, reason) =>
        listener.fail(atMs, /decoupled/.test(reason) ? `${reason}; use gRPC (kserve-grpc)` : reason),
    });
  }

  close(): void {
    this.#client.close();
  }
}

/** A KServe (Triton) server under load over HTTP's `infer`, with ids or text by the names of the TensorRT-LLM backend. */
export class KserveHttpTarget implements Target {
  readonly #spec: TargetSpec;
  readonly #calls: KserveHttpCalls;

  constructor(spec: TargetSpec) {
    this.#spec = spec;
    this.#calls = new KserveHttpCalls(spec);
  }

  send(request: TargetRequest, listener: AnswerListener): () => void {
    const { sampling, model } = this.#spec;
    let lastMs = 0;
    return this.#calls.send(
      {
        model: request.model ?? (model || usualModel(request)),
        inputs: requestTensors(request, sampling, false),
        outputs: requestedOutputs(request),
      },
      {
        outputs: (atMs, outputs) => {
          lastMs = atMs;
          const answer = answerOf(outputs, request, false);
          if (answer) listener.output(atMs, answer.text, answer.tokens);
        },
        end: () => listener.end(lastMs, {}),
        fail: (atMs, reason) => listener.fail(atMs, reason),
      },
    );
  }

  close(): void {
    this.#calls.close();
  }
}

function jsonData(datatype: string, values: readonly (number | string)[]): readonly unknown[] {
  return datatype === 'BOOL' ? values.map((value) => value !== 0) : values;
}

function tensorOf({
  name,
  datatype,
  shape,
  data = [],
}: NonNullable<InferAnswer['outputs']>[number]): WireTensor {
  // A list of any nesting is allowed; row by row it is the same.
  const values = data
    .flat(Number.POSITIVE_INFINITY)
    .map((value) => (typeof value === 'string' ? value : Number(value)));
  return { name, datatype, shape, values };
}

function parse(data: string): InferAnswer | undefined {
  try {
    return JSON.parse(data) as InferAnswer;
  } catch {
    return undefined;
  }
}

import { LoadError } from '../errors.ts';
import { targetFailure } from '../target/failure.ts';
import { KserveGrpcCalls, type KserveListener, type KserveRequest } from '../target/kserve-grpc.ts';
import { KserveHttpCalls } from '../target/kserve-http.ts';
import { int32Tensor, singleTensor, type WireTensor } from '../target/kserve-tensors.ts';
import type { TargetSpec } from '../target/target.ts';

/** One prompt, and how many tokens are asked for. */
export interface CheckedPrompt {
  text: string;
  outputTokens: number;
}

/** Where the check goes. */
export interface EnsembleCheckOptions {
  protocol: 'grpc' | 'http';
  server: Pick<TargetSpec, 'url' | 'channels' | 'headers' | 'timeoutMs'>;
  /** Models that must answer as the three steps do: `ensemble`, `tensorrt_llm_bls`. */
  models: readonly string[];
  signal?: AbortSignal;
}

/** How the tensors of one step are called in the next: preprocessing's in `tensorrt_llm`. */
const forwarded: Readonly<Record<string, string>> = {
  INPUT_ID: 'input_ids',
  REQUEST_INPUT_LEN: 'input_lengths',
  REQUEST_OUTPUT_LEN: 'request_output_len',
  OUT_END_ID: 'end_id',
  OUT_PAD_ID: 'pad_id',
};

/** A server that is called, in either protocol. */
interface Calls {
  send(request: KserveRequest, listener: KserveListener): () => void;
  close(): void;
}

/** A server with its address, for errors. */
interface Called {
  calls: Calls;
  url: string;
}

/**
 * The functional half of Triton's end_to_end_test: for each prompt preprocessing, tensorrt_llm and postprocessing are called one after the
 * other, then the whole models; their texts must be equal.
 * @throws LoadError LOAD_TARGET_UNREACHABLE, LOAD_TARGET_REFUSED with what a model said, LOAD_CHECK_FAILED with both texts
 */
export async function checkEnsemble(
  prompts: Iterable<CheckedPrompt>,
  { protocol, server, models, signal }: EnsembleCheckOptions,
): Promise<void> {
  const calls: Calls = protocol === 'grpc' ? new KserveGrpcCalls(server) : new KserveHttpCalls(server);
  const called: Called = { calls, url: server.url };
  try {
    for (const prompt of prompts) {
      signal?.throwIfAborted();
      const expected = await byHand(called, prompt);
      for (const model of models) {
        const text = await whole(called, model, prompt);
        if (text !== expected) throw differs(model, prompt.text, expected, text);
      }
    }
  } finally {
    calls.close();
  }
}

async function byHand(calls: Called, { text, outputTokens }: CheckedPrompt): Promise<string> {
  const prepared = await infer(calls, 'preprocessing', [
    singleTensor('QUERY', 'BYTES', text),
    int32Tensor('REQUEST_OUTPUT_LEN', [outputTokens]),
  ]);
  const inputs = prepared.flatMap((tensor) => {
    const name = forwarded[tensor.name];
    return name === undefined || tensor.values.length === 0 ? [] : [{ ...tensor, name }];
  });
  const answer = await infer(calls, 'tensorrt_llm', inputs, ['output_ids', 'sequence_length']);
  const texts = await infer(calls, 'postprocessing', [
    { ...named(answer, 'output_ids', 'tensorrt_llm'), name: 'TOKENS_BATCH' },
    { ...named(answer, 'sequence_length', 'tensorrt_llm'), name: 'SEQUENCE_LENGTH' },
  ]);
  return String(named(texts, 'OUTPUT', 'postprocessing').values[0]);
}

async function whole(calls: Called, model: string, { text, outputTokens }: CheckedPrompt): Promise<string> {
  const inputs = [singleTensor('text_input', 'BYTES', text), int32Tensor('max_tokens', [outputTokens])];
  const answer = await infer(calls, model, inputs, ['text_output']);
  return String(named(answer, 'text_output', model).values[0]);
}

/** One request; the tensors of its first response that has any. */
function infer(
  { calls, url }: Called,
  model: string,
  inputs: readonly WireTensor[],
  outputs: readonly string[] = [],
): Promise<WireTensor[]> {
  return new Promise((resolve, reject) => {
    const refused = (reason: string): void => reject(targetFailure(url, `a request to ${model}`, reason));
    calls.send(
      { model, inputs, outputs },
      {
        outputs: (_atMs, tensors) => {
          if (tensors.length > 0) resolve(tensors);
        },
        end: () => refused('its answer has no tensors'),
        fail: (_atMs, reason) => refused(reason),
      },
    );
  });
}

function named(tensors: readonly WireTensor[], name: string, model: string): WireTensor {
  const found = tensors.find((tensor) => tensor.name === name);
  if (found) return found;
  throw new LoadError('LOAD_TARGET_REFUSED', `${model} answered without its output '${name}'`);
}

function differs(model: string, prompt: string, expected: string, text: string): LoadError {
  const short = (value: string): string => JSON.stringify(value.slice(0, 200));
  return new LoadError(
    'LOAD_CHECK_FAILED',
    `${model} answers ${short(prompt)} with ${short(text)}, its three steps called one by one with ${short(expected)}`,
  );
}

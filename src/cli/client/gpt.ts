import { type Tensor, tensorOf, valuesOf } from '../../repository/tensor.ts';
import { openTokenizer } from '../../tokenizer/open.ts';
import { CliError } from '../errors.ts';
import { KserveConnection } from './connection.ts';

/** What `nereid client gpt` was told. */
export interface GptFlags {
  url: string;
  text: string;
  tokenizerDir: string;
  outputLen: number;
  topk: number;
  topp: number;
}

/**
 * The run of `tools/gpt/client.py`: tokenizes by itself, asks `tensorrt_llm` once, and prints how long that took and the text.
 * @throws CliError when the request is refused
 */
export async function runGpt({ url, text, tokenizerDir, outputLen, topk, topp }: GptFlags): Promise<void> {
  const tokenizer = await openTokenizer(tokenizerDir);
  const prompt = tokenizer.encode(text);
  const endId = tokenizer.eosTokenId ?? -1;
  const int = (name: string, ...values: number[]): Tensor =>
    tensorOf(name, 'INT32', [1, values.length], Int32Array.from(values));
  const inputs = [
    int('input_ids', ...prompt),
    int('input_lengths', prompt.length),
    int('request_output_len', outputLen),
    int('end_id', endId),
    int('pad_id', endId),
    int('beam_width', 1),
    int('runtime_top_k', topk),
    tensorOf('runtime_top_p', 'FP32', [1, 1], Float32Array.of(topp)),
  ];
  const connection = new KserveConnection(url);
  try {
    const startMs = performance.now();
    const outputs = await answerOf(connection, inputs);
    const latencyMs = performance.now() - startMs;
    const ids = outputs.get('output_ids');
    if (!ids) throw new CliError('REQUEST_REFUSED', 'the answer has no output_ids', { usage: false });
    const made = [...valuesOf(ids, 'INT32')].slice(prompt.length).filter((id) => id >= 0);
    const answer = tokenizer.decode(made, { continuation: true });
    process.stdout.write(`[INFO] Latency: ${latencyMs.toFixed(3)} ms\nInput: ${text}\nOutput: ${answer}\n`);
  } finally {
    connection.close();
  }
}

/** The one response, over a stream: that way models answer whether they are decoupled or not. @throws CliError */
async function answerOf(
  connection: KserveConnection,
  inputs: readonly Tensor[],
): Promise<Map<string, Tensor>> {
  let outputs = new Map<string, Tensor>();
  let failure: string | undefined;
  const stream = connection.stream((response) => {
    if (response.outputs.size > 0) outputs = response.outputs;
    failure ??= response.error;
  });
  stream.send({ model: 'tensorrt_llm', id: '', inputs });
  stream.end();
  await stream.ended;
  if (failure !== undefined) throw new CliError('REQUEST_REFUSED', failure, { usage: false });
  return outputs;
}

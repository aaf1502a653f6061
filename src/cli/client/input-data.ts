import { writeFile } from 'node:fs/promises';
import { SeededRandom } from '../../base/random.ts';

/** What `nereid client gen-input-data` was told. */
export interface InputDataFlags {
  numSamples: number;
  startLen: number;
  outputLen: number;
  beamWidth: number;
  topk: number;
  topp: number;
  seed: number;
  output: string;
}

/** Ids below this are drawn, as `gen_input_data.py` draws them: GPT-2's vocabulary without its specials. */
const idsMax = 50_255;
const endId = 50_256;

/** Writes the file that `perf_analyzer --input-data` takes for `tensorrt_llm`: each tensor with its content and shape. */
export async function writeInputData(flags: InputDataFlags): Promise<void> {
  const random = new SeededRandom(flags.seed);
  const one = (value: number) => ({ content: [value], shape: [1] });
  const data = Array.from({ length: flags.numSamples }, () => ({
    input_ids: {
      content: Array.from({ length: flags.startLen }, () => random.integer(idsMax)),
      shape: [flags.startLen],
    },
    input_lengths: one(flags.startLen),
    request_output_len: one(flags.outputLen),
    end_id: one(endId),
    pad_id: one(endId),
    beam_width: one(flags.beamWidth),
    runtime_top_k: one(flags.topk),
    runtime_top_p: one(flags.topp),
  }));
  await writeFile(flags.output, JSON.stringify({ data }, undefined, 1));
  process.stdout.write(`${flags.output}: ${flags.numSamples} samples of ${flags.startLen} ids\n`);
}

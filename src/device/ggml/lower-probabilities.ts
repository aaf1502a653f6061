import { probabilityBlock } from '../step.ts';
import type { Tensor } from './handles.ts';
import type { LoweringState } from './lowering-state.ts';

const temperatureLanesMax = 256;
const floatBytes = 4;

/**
 * How many equal copies of a row's 1 / temperature the step writes: the largest divisor of the vocabulary up to 256. ggml multiplies by
 * a broadcast vector as many elements at a time as that vector has, so a single number would be multiplied one call an element.
 */
export function temperatureLanes(vocabularySize: number): number {
  let lanes = Math.min(temperatureLanesMax, vocabularySize);
  while (vocabularySize % lanes !== 0) lanes--;
  return lanes;
}

/** The tensors of one step's probabilities. */
export interface ProbabilityTensors {
  values: Tensor;
  /** Absent if the vocabulary is smaller than one block. */
  blockSums: Tensor | undefined;
}

/** Ends the graph in each row's softmax of logits / temperature, and in the sums of its blocks: products with a vector of ones. */
export function lowerProbabilities(
  state: LoweringState,
  logits: Tensor,
  vocabularySize: number,
): ProbabilityTensors {
  const { ggml, context, parts } = state;
  const rows = state.shape.logitRows ?? state.shape.outputRows;
  const scaled = ggml.ggml_mul(context, logits, parts.workspace.inverseTemperatureInput(context, rows));
  const values = ggml.ggml_soft_max(context, scaled);
  ggml.ggml_set_output(values);
  state.expand(values);
  const blocks = Math.floor(vocabularySize / probabilityBlock);
  if (blocks === 0) return { values, blockSums: undefined };
  const rowBytes = vocabularySize * floatBytes;
  const blockBytes = probabilityBlock * floatBytes;
  const view = ggml.ggml_view_4d(
    context,
    values,
    ...([probabilityBlock, blocks, rows, 1] as const),
    ...([blockBytes, rowBytes, rowBytes * rows, 0] as const),
  );
  const blockSums = ggml.ggml_mul_mat(context, view, parts.workspace.onesInput(context, rows));
  ggml.ggml_set_output(blockSums);
  state.expand(blockSums);
  return { values, blockSums };
}

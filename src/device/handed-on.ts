import { hostChooses, type StepBatch, type StepOutput } from './step.ts';

/** A step's result in a pipeline stage that is not the last: it chooses no tokens. @param hidden [T, width] */
export function handedOn({ outputs }: StepBatch, hidden: Float32Array): StepOutput {
  return { tokens: new Int32Array(outputs.count).fill(hostChooses), hidden };
}

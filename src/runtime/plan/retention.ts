/** TensorRT-LLM's default of 0 to 100. */
export const retentionPriorityDefault = 35;

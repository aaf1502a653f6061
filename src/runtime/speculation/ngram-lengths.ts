/** Lengths of what is looked up, longest first; vLLM's `prompt_lookup_max` and `prompt_lookup_min`. */
export interface NgramLengths {
  max: number;
  min: number;
}

export const ngramLengthsDefault: NgramLengths = { max: 4, min: 2 };
/** Longer ones find nothing that these do not, and cost a table each. */
export const ngramLengthMax = 16;

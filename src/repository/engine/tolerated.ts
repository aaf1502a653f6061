/** Load tools draw ids over all of int32, and the original computes something for them; so does this. */
export function tolerated(prompt: Int32Array, vocabularySize: number): Int32Array {
  if (prompt.every((id) => id >= 0 && id < vocabularySize)) return prompt;
  return prompt.map((id) => ((id % vocabularySize) + vocabularySize) % vocabularySize);
}

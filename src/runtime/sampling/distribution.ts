/** What a draw falls on: tokens in ascending order, with probabilities that sum to one. */
export interface Distribution {
  tokens: Int32Array;
  probabilities: Float64Array;
}
